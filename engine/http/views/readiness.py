"""An account's readiness, its login link and what a login has brought, as the API shows them."""

from datetime import datetime
from uuid import UUID

from engine.domain.readiness import AccountReadiness
from engine.http.endpoint import ApiStruct
from engine.http.login_links import LoginLink


class FindingView(ApiStruct, frozen=True, kw_only=True):
    """One look; ``ok`` is null for what cannot be known beforehand."""

    check: str
    ok: bool | None
    detail: str


class ReadinessView(ApiStruct, frozen=True, kw_only=True):
    """Whether an account could trade now, and what was looked at."""

    account_id: UUID
    label: str
    ready: bool
    checked_at: datetime
    checks: tuple[FindingView, ...]


class LoginLinkView(ApiStruct, frozen=True, kw_only=True):
    """Where a person logs in; ``callbackUrl`` must be the redirect URL of the app on the Kite developer console."""

    url: str
    expires_at: datetime
    callback_url: str


def readiness_view(report: AccountReadiness) -> ReadinessView:
    """Return a report as the API shows it."""
    return ReadinessView(
        account_id=report.account_id,
        label=report.label,
        ready=report.is_ready,
        checked_at=report.checked_at,
        checks=tuple(FindingView(check=f.check, ok=f.ok, detail=f.detail) for f in report.findings),
    )


def login_link_view(link: LoginLink) -> LoginLinkView:
    """Return a link as the API shows it."""
    return LoginLinkView(url=link.url, expires_at=link.expires_at, callback_url=link.callback)

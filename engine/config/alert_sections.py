"""The sections of the configuration about alerts."""

from datetime import time
from typing import Annotated, Literal

import msgspec

from engine.config.section import Section
from engine.domain.alert_rules import AlertRules, QuietHours, Route, Severity
from engine.secret import Secret

Severities = Literal["info", "warning", "critical"]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=604_800)]


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An element of ``alerts.routes``."""

    channels: tuple[str, ...]
    min_severity: Severities = "info"
    codes: tuple[str, ...] = ()
    after_s: Seconds = 0


class EmailConfig(Section, frozen=True, kw_only=True):
    """``[alerts.email]``: an SMTP server; without ``host`` there is no e-mail."""

    host: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: Secret = Secret("")
    sender: str = ""
    to: tuple[str, ...] = ()


class WebhookAlertsConfig(Section, frozen=True, kw_only=True):
    """``[alerts.webhook]``: an address of a program; its calls are signed with ``secret``."""

    url: Secret = Secret("")
    secret: Secret = Secret("")


class NtfyConfig(Section, frozen=True, kw_only=True):
    """``[alerts.ntfy]``: server and topic in one address."""

    url: Secret = Secret("")
    token: Secret = Secret("")


class AppriseConfig(Section, frozen=True, kw_only=True):
    """``[alerts.apprise]``: an Apprise API server."""

    url: Secret = Secret("")


class HeartbeatConfig(Section, frozen=True, kw_only=True):
    """``[alerts.heartbeat]``: the outside service that alarms when it is not called any more."""

    url: Secret = Secret("")
    method: Literal["GET", "POST", "HEAD"] = "GET"
    every_s: Annotated[int, msgspec.Meta(ge=5, le=86_400)] = 60


class AlertsConfig(Section, frozen=True, kw_only=True):
    """``[alerts]``: whom alerts go to, and when."""

    quiet_hours: str = ""
    coalesce_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 900
    repeat_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 900
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 90
    severities: dict[str, str] = {}
    routes: tuple[RouteConfig, ...] = ()
    email: EmailConfig = EmailConfig()
    webhook: WebhookAlertsConfig = WebhookAlertsConfig()
    ntfy: NtfyConfig = NtfyConfig()
    apprise: AppriseConfig = AppriseConfig()
    heartbeat: HeartbeatConfig = HeartbeatConfig()

    @property
    def rules(self) -> AlertRules:
        """These settings as alerts are judged by."""
        start, _, end = self.quiet_hours.partition("-")
        return AlertRules(
            coalesce_s=self.coalesce_s,
            repeat_s=self.repeat_s,
            quiet=QuietHours(start=time.fromisoformat(start), end=time.fromisoformat(end)) if start else None,
            severities={code: Severity(severity) for code, severity in self.severities.items()},
            routes=tuple(
                Route(
                    channels=route.channels,
                    min_severity=Severity(route.min_severity),
                    codes=route.codes,
                    after_s=route.after_s,
                )
                for route in self.routes
            ),
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that may be called, for the list of what may be connected to."""
        given = (self.webhook.url, self.ntfy.url, self.apprise.url, self.heartbeat.url)
        mail = f"smtp://{self.email.host}:{self.email.port}" if self.email.host else ""
        return tuple(text for text in (*(url.reveal() for url in given), mail) if text)

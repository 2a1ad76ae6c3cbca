"""Telegram, built and wired: what the bot says, how its updates come in, who is linked, who is alerted."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import structlog

from engine.actors.audit_writer import AuditWriter
from engine.actors.errands import Errands
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.telegram_alerts import TelegramAlerts
from engine.actors.telegram_poller import TelegramPoller, bot_id
from engine.actors.telegram_replies import TelegramReplies
from engine.actors.telegram_webhook import TelegramWebhook
from engine.assembly import Trading
from engine.clock import Clock
from engine.config import Config
from engine.domain.alert_notice import Notice
from engine.domain.enums import Role
from engine.domain.telegram_links import TelegramLinks
from engine.http.endpoint import BASE_PATH, Registry
from engine.http.inner_call import InnerCalls
from engine.http.origin import UpdateOrigin
from engine.http.routes.telegram_updates import take
from engine.http.second_factor import UserFactors
from engine.http.services import Services
from engine.http.telegram_acks import ack_data
from engine.runtime.child import ChildSpec
from engine.secret import Secret
from engine.security.link_codes import LinkCodes
from engine.security.sessions import UserDirectory
from engine.signals.telegram import parse_update
from engine.store import telegram as store
from engine.store.database import Database
from engine.store.directory import Vault

_log = structlog.get_logger(__name__)

WEBHOOK_PATH = f"{BASE_PATH}/signals/telegram/webhook"


class TelegramSide:
    """The children of the edge that speak to Telegram, and what the routes need of them."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        database: Database,
        ledger: AuditWriter,
        trading: Trading,
        users: UserDirectory,
        vault: Vault,
        button_key: bytes,
    ) -> None:
        self._config = config.telegram
        self._public_url = config.server.public_url.rstrip("/")
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._trading = trading
        self._users = users
        self._second_factor = UserFactors(users, database, vault, clock)
        self._token = Secret("") if self._config.mode == "off" else self._config.bot_token
        self.replies = TelegramReplies(self._config.api_url, self._token)
        self._errands = Errands()
        self._links = TelegramLinks()
        self._alerts = TelegramAlerts(
            tell=self.replies.tell,
            people=self._admins,
            clock=clock,
            ack_data=lambda alert_id, chat_id: ack_data(button_key, alert_id, chat_id),
        )
        self._services: Services | None = None

    @property
    def tell_alert(self) -> Callable[[Notice], None] | None:
        """How linked administrators are told of an alert; None without a bot."""
        return self._alerts.tell if self._token else None

    def extras(self) -> dict[str, Any]:
        """Return what endpoints and commands look up by name."""
        return {
            "telegram_replies": self.replies,
            "answer_press": self.replies.answer_press,
            "take_buttons_off": self.replies.take_buttons_off,
            "errands": self._errands,
            "telegram_links": self._links,
            "link_codes": LinkCodes(),
            "second_factor": self._second_factor,
        }

    async def begin(self, services: Services, endpoints: Registry) -> None:
        """Load who is linked. Raises StoreUnavailable; Telegram itself is not asked for anything."""
        self._services = services
        services.extras["inner_calls"] = InnerCalls(services, endpoints)
        for link in await self._database.run(store.links):
            self._links.put(link)

    def specs(self, *, lease: LeaseKeeper, base: Callable[[], str]) -> list[ChildSpec]:
        """Return the children; *base* says where the engine is reached from a browser."""
        specs = [
            ChildSpec(name="telegram-replies", start=self.replies.run, mailbox=self.replies.mailbox),
            ChildSpec(name="errands", start=self._errands.run, mailbox=self._errands.mailbox),
        ]
        if self._token and self._config.mode == "polling":
            specs.append(ChildSpec(name="telegram-poller", start=self._poller(lease, base).run))
        if self._token and self._config.mode == "webhook" and (address := self.webhook_address()) is not None:
            webhook = TelegramWebhook(
                self._config.api_url,
                self._token,
                self._config.secret_token,
                address=address,
                alert=self._trading.alert,
            )
            specs.append(ChildSpec(name="telegram-webhook", start=webhook.run))
        return specs

    def webhook_address(self) -> str | None:
        """Return the address to give to Telegram; None without a public https address or a secret token."""
        return webhook_address(self._public_url, self._config.secret_token)

    def _poller(self, lease: LeaseKeeper, base: Callable[[], str]) -> TelegramPoller:
        ingest = self._trading.ingest

        async def handle(raw: bytes) -> None:
            origin = UpdateOrigin(
                services=self._services,
                client_ip="telegram",
                request_id=f"telegram-{uuid4().hex}",
                base=base(),
                comes_again=True,
            )
            await take(origin, parse_update(raw))

        return TelegramPoller(
            self._config.api_url,
            self._token,
            handle=handle,
            leads=lambda: lease.holds() and ingest.is_open,
            load=lambda: self._database.run(lambda connection: store.offset(connection, bot_id(self._token))),
            keep=self._ledger.append,
            alert=self._trading.alert,
            clock=self._clock,
        )

    def _admins(self) -> list[int]:
        found = []
        for link in self._links.all():
            user = self._users.get(link.user_id)
            if user is not None and not user.disabled and user.role is Role.ADMIN:
                found.append(link.telegram_user_id)
        return found


def webhook_address(public_url: str, secret_token: Secret) -> str | None:
    """Return where Telegram is to call; None when it cannot: it calls https only, and the door needs the secret."""
    if not public_url.startswith("https://") or not secret_token:
        return None
    return f"{public_url.rstrip('/')}{WEBHOOK_PATH}"

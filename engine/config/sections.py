"""The sections of the configuration, with their defaults and bounds.

Names and defaults are contract section 2, those of ``[risk]`` contract section 6. Seconds end in
``_s``, percentages in ``_pct``, amounts are rupees. ``engine.toml.example`` says in plain words what
each key does.
"""

from datetime import time
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec

from engine.domain.drill_schedule import DrillTimes, Every, read_times
from engine.domain.enums import Exchange, ProductType, Segment
from engine.domain.kill_triggers import Reaction, Trigger, TriggerSettings
from engine.domain.limits import RiskLimits, TradingWindow
from engine.secret import Secret

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=315_360_000)]
# A signal must be dead before the wait for proof that its order was never placed ends, or it could be
# sent late; that wait is never shorter than this (contract section 2).
PROOF_OF_ABSENCE_S = 120
MaxAge = Annotated[int, msgspec.Meta(ge=1, le=PROOF_OF_ABSENCE_S - 1)]
EMBEDDED = "embedded"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: immutable, and no key that is not declared."""


class ServerConfig(Section, frozen=True, kw_only=True):
    """``[server]``: where the API listens and how it is reached from outside."""

    host: str = "127.0.0.1"
    port: Port = 8080
    trusted_proxies: tuple[str, ...] = ()
    public_url: str = ""


class DatabaseConfig(Section, frozen=True, kw_only=True):
    """``[database]``: the PostgreSQL that holds the ledger."""

    url: str = EMBEDDED

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs a PostgreSQL of its own."""
        return self.url == EMBEDDED

    def __repr__(self) -> str:
        return f"DatabaseConfig(url={_masked(self.url)!r})"


class RedisConfig(Section, frozen=True, kw_only=True):
    """``[redis]``: the Valkey or Redis that holds the journal."""

    url: str = EMBEDDED

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs a Valkey of its own."""
        return self.url == EMBEDDED

    def __repr__(self) -> str:
        return f"RedisConfig(url={_masked(self.url)!r})"


class KiteConfig(Section, frozen=True, kw_only=True):
    """``[broker.kite]``: addresses and pace of Kite Connect v3, per account.

    ``local_address`` is the address of this machine that order calls and reads leave by, empty for any.
    """

    root_url: str = "https://api.kite.trade"
    ws_url: str = "wss://ws.kite.trade"
    login_url: str = "https://kite.zerodha.com/connect/login"
    orders_per_second: Count = 10
    orders_per_minute: Count = 400
    orders_per_day: Count = 5000
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 7.0
    local_address: str = ""
    ipv4_only: bool = False
    readiness_at: str = "08:45"
    remind_at: str = "09:00"

    @property
    def leaves_by(self) -> str | None:
        """The local address that sockets are bound to, None for whatever the system picks.

        The wildcard of IPv4 keeps the name's IPv6 addresses from being tried: they cannot be reached from it.
        """
        return self.local_address or ("0.0.0.0" if self.ipv4_only else None)  # noqa: S104 -- nothing listens

    @property
    def readiness_time(self) -> time:
        """When on trading days it is looked whether every account could trade, IST."""
        return time.fromisoformat(self.readiness_at)

    @property
    def reminder_time(self) -> time:
        """When a second word is given about accounts that are still not logged in, IST."""
        return time.fromisoformat(self.remind_at)


class BrokerConfig(Section, frozen=True, kw_only=True):
    """``[broker]``: paper trades against the engine's own exchange, kite against Zerodha's."""

    mode: Literal["paper", "kite"] = "paper"
    kite: KiteConfig = KiteConfig()


class TelegramConfig(Section, frozen=True, kw_only=True):
    """``[telegram]``: the one bot of the engine; ``admin_user_ids`` are Telegram's ids of people who may answer it."""

    api_url: str = "https://api.telegram.org"
    bot_token: Secret = Secret("")
    secret_token: Secret = Secret("")
    mode: Literal["webhook", "polling", "off"] = "webhook"
    admin_user_ids: tuple[int, ...] = ()


class SignalsConfig(Section, frozen=True, kw_only=True):
    """``[signals]``: how long a signal lives and is remembered; ``aliases`` are other names of symbols."""

    max_age_s: MaxAge = 60
    dedup_window_s: Seconds = 86400
    max_clock_skew_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 300
    aliases: dict[str, str] = {}


class WindowConfig(Section, frozen=True, kw_only=True):
    """``risk.trading_window``: clock times in market.timezone, ``HH:MM``."""

    start: str
    end: str


class RiskConfig(Section, frozen=True, kw_only=True):
    """``[risk]``: the limits of users who have none of their own, None means no limit; and when prices are stale."""

    max_daily_loss_pct: Decimal | None = Decimal(5)
    max_daily_loss_amount: Decimal | None = None
    max_position_pct: Decimal | None = Decimal(100)
    max_open_positions: Count | None = 50
    max_order_value: Decimal | None = Decimal(1_000_000)
    max_order_quantity: Count | None = 100_000
    price_band_pct: Decimal | None = Decimal(20)
    max_orders_per_minute: Count | None = 400
    max_orders_per_day: Count | None = 5000
    circuit_breaker_failures: Count | None = 5
    circuit_breaker_cooldown_s: Seconds | None = 300
    duplicate_window_s: Seconds | None = None
    allowed_exchanges: tuple[Exchange, ...] | None = None
    allowed_products: tuple[ProductType, ...] | None = None
    trading_window: WindowConfig | None = None
    price_stale_s: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 15
    allowed_segments: tuple[Segment, ...] | None = None
    profit_target_amount: Decimal | None = None
    profit_lock_trigger_amount: Decimal | None = None
    profit_lock_giveback_pct: Decimal | None = None
    max_drawdown_amount: Decimal | None = None
    max_drawdown_pct: Decimal | None = None
    cooldown_after_losses: Count | None = None
    cooldown_s: Seconds | None = None
    max_trades_per_day: Count | None = None
    max_messages_per_minute: Count | None = None
    self_trade_guard: bool | None = None

    def limits(self) -> RiskLimits:
        """Return these defaults as the limits that risk judges by."""
        window = self.trading_window
        values = msgspec.structs.asdict(self)
        del values["price_stale_s"]
        values["trading_window"] = window and TradingWindow(start=window.start, end=window.end)
        return RiskLimits(**values)


Reactions = Literal["off", "alert", "block", "cancel", "square_off"]


class KillswitchConfig(Section, frozen=True, kw_only=True):
    """``[killswitch]``: what each condition does that trips the kill switch by itself, and where it begins."""

    order_rate: Reactions = "alert"
    order_rate_normal: Count = 60
    order_rate_factor: Count = 5
    reject_rate: Reactions = "block"
    reject_rate_pct: Annotated[int, msgspec.Meta(ge=1, le=99)] = 50
    reject_rate_orders: Count = 50
    reconcile_mismatch: Reactions = "alert"
    reconcile_mismatch_reads: Count = 2
    unknown_orders: Reactions = "block"
    unknown_orders_more_than: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 25
    unknown_orders_for_s: Seconds = 60
    parked_exits: Reactions = "off"
    broker_unreachable: Literal["auto", "off", "alert", "block", "cancel", "square_off"] = "auto"
    broker_unreachable_s: Seconds = 15
    audit_chain: Reactions = "block"
    clock_suspect: Reactions = "off"
    loop_lag: Reactions = "alert"
    loop_lag_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 2.0
    lease_lost: Reactions = "off"
    journal_wiped: Reactions = "off"

    def triggers(self, mode: str) -> TriggerSettings:
        """Return these as the triggers read them; the broker's *mode* decides what "auto" means."""
        unreachable = self.broker_unreachable
        if unreachable == "auto":
            unreachable = "block" if mode == "kite" else "off"
        values = msgspec.structs.asdict(self) | {"broker_unreachable": unreachable}
        return TriggerSettings(
            reactions={trigger: Reaction(values[trigger.value.lower()]) for trigger in Trigger},
            order_rate_normal=self.order_rate_normal,
            order_rate_factor=self.order_rate_factor,
            reject_rate_pct=self.reject_rate_pct,
            reject_rate_orders=self.reject_rate_orders,
            mismatch_reads=self.reconcile_mismatch_reads,
            unknown_orders=self.unknown_orders_more_than,
            unknown_orders_s=self.unknown_orders_for_s,
            broker_unreachable_s=self.broker_unreachable_s,
            loop_lag_s=self.loop_lag_s,
        )


class SessionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An element of ``market.special_sessions``: the hours (IST) of one day, ``exchange`` None for every exchange."""

    date: str
    start: str
    end: str
    exchange: Exchange | None = None


# Ten minutes or so before the close of those that do not close with the shares.
_SQUARE_OFF_AT = {Exchange.CDS: "16:45", Exchange.BCD: "16:45", Exchange.MCX: "23:25"}


class MarketConfig(Section, frozen=True, kw_only=True):
    """``[market]``: trading hours; ``enforce_hours`` None leaves it to the broker mode.

    ``auto_square_off`` None squares intraday positions off by the clock where hours are enforced. Flattening leaves
    shares held for delivery alone unless ``square_off_delivery``, and does nothing at an opening that was asked for
    outside the hours of an exchange unless ``flatten_at_open``.
    """

    timezone: str = "Asia/Kolkata"
    enforce_hours: bool | None = None
    square_off_at: str = "15:20"
    square_off_by_exchange: dict[Exchange, str] = {}
    auto_square_off: bool | None = None
    square_off_delivery: bool = False
    flatten_at_open: bool = False
    holidays: tuple[str, ...] = ()
    special_sessions: tuple[SessionConfig, ...] = ()

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of every clock time in the configuration."""
        return ZoneInfo(self.timezone)

    @property
    def square_off_times(self) -> dict[Exchange, time]:
        """Clock time in `zone` at which intraday positions of each exchange are squared off."""
        return {
            exchange: time.fromisoformat(
                (_SQUARE_OFF_AT | self.square_off_by_exchange).get(exchange, self.square_off_at)
            )
            for exchange in Exchange
        }


class SecurityConfig(Section, frozen=True, kw_only=True):
    """``[security]``: keys, and the lives of tokens. A key of None is made at first start and kept."""

    master_key: Secret | None = None
    jwt_secret: Secret | None = None
    access_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 900
    refresh_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] = 1_209_600
    registration: Literal["closed", "open"] = "closed"
    two_admins: bool = False
    metrics_token: Secret = Secret("")


class LimitsConfig(Section, frozen=True, kw_only=True):
    """``[limits]``: requests per minute; logins per address, webhooks per source, API calls per user."""

    login_per_minute: Count = 10
    webhook_per_minute: Count = 6000
    api_per_minute: Count = 1200


class DrillConfig(Section, frozen=True, kw_only=True):
    """``[drill]``: when the kill switch is rehearsed (`engine.domain.drill_schedule`)."""

    schedule: Every = "off"
    at: str = "SAT 10:00"

    @property
    def times(self) -> DrillTimes | None:
        """When one is due, None for never. Raises ValueError that says what was expected of ``at``."""
        return read_times(self.schedule, self.at)


class LoggingConfig(Section, frozen=True, kw_only=True):
    """``[logging]``: log files by day."""

    dir: str = "logs"
    level: Literal["debug", "info", "warn", "error"] = "info"
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 90


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    server: ServerConfig = ServerConfig()
    database: DatabaseConfig = DatabaseConfig()
    redis: RedisConfig = RedisConfig()
    broker: BrokerConfig = BrokerConfig()
    telegram: TelegramConfig = TelegramConfig()
    signals: SignalsConfig = SignalsConfig()
    risk: RiskConfig = RiskConfig()
    killswitch: KillswitchConfig = KillswitchConfig()
    market: MarketConfig = MarketConfig()
    security: SecurityConfig = SecurityConfig()
    limits: LimitsConfig = LimitsConfig()
    drill: DrillConfig = DrillConfig()
    logging: LoggingConfig = LoggingConfig()

    @property
    def auto_square_off(self) -> bool:
        """Whether intraday positions are squared off by the clock: as configured, otherwise where hours count."""
        stated = self.market.auto_square_off
        return self.enforce_hours if stated is None else stated

    @property
    def auto_square_off_times(self) -> dict[Exchange, time]:
        """When intraday positions of each exchange are squared off by the clock, IST; empty when they are not."""
        return self.market.square_off_times if self.auto_square_off else {}

    @property
    def enforce_hours(self) -> bool:
        """Whether orders outside market hours are refused: as configured, otherwise in kite mode only."""
        stated = self.market.enforce_hours
        return self.broker.mode == "kite" if stated is None else stated


def _masked(url: str) -> str:
    # A password may stand before the last @ or among the parameters; what is left tells two servers apart.
    scheme, mark, rest = url.partition("://")
    return (
        f"{scheme}://***{rest.rpartition('@')[2].partition('?')[0]}" if mark and ("@" in rest or "?" in rest) else url
    )

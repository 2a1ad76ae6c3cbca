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

from engine.config.alert_sections import AlertsConfig
from engine.config.section import Section
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


class ServerConfig(Section, frozen=True, kw_only=True):
    """``[server]``: where the API listens, how it is reached from outside, and how many may be connected.

    ``tls_cert`` and ``tls_key`` are paths of PEM files, both or neither.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    trusted_proxies: tuple[str, ...] = ()
    public_url: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    allow_plain_http: bool = False
    allowed_hosts: tuple[str, ...] = ()
    connections: Annotated[int, msgspec.Meta(ge=16, le=10_000)] = 512
    connections_per_address: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32


class DatabaseConfig(Section, frozen=True, kw_only=True):
    """``[database]``: the PostgreSQL that holds the ledger.

    ``owner_url`` is for the login that owns the schema and migrates it, where that of ``url`` has fewer rights.
    ``history_months`` is for how many whole months timelines and verdicts are kept.
    """

    url: str = EMBEDDED
    owner_url: str = ""
    history_months: Annotated[int, msgspec.Meta(ge=12, le=1200)] = 60

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs a PostgreSQL of its own."""
        return self.url == EMBEDDED

    def __repr__(self) -> str:
        owner = f", owner_url={masked_url(self.owner_url)!r}" if self.owner_url else ""
        return f"DatabaseConfig(url={masked_url(self.url)!r}{owner})"


class RedisConfig(Section, frozen=True, kw_only=True):
    """``[redis]``: the Valkey or Redis that holds the journal."""

    url: str = EMBEDDED

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs a Valkey of its own."""
        return self.url == EMBEDDED

    def __repr__(self) -> str:
        return f"RedisConfig(url={masked_url(self.url)!r})"


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
    """``[telegram]``: the one bot of the engine; ``admin_user_ids`` are Telegram's ids of people who may answer it.

    ``ip_ranges`` are where the webhook may be called from, as a second wall behind ``secret_token``; empty: anywhere.
    """

    api_url: str = "https://api.telegram.org"
    bot_token: Secret = Secret("")
    secret_token: Secret = Secret("")
    mode: Literal["webhook", "polling", "off"] = "webhook"
    admin_user_ids: tuple[int, ...] = ()
    ip_ranges: tuple[str, ...] = ()


class SignalsConfig(Section, frozen=True, kw_only=True):
    """``[signals]``: how long a signal lives and is remembered; ``aliases`` are other names of symbols.

    ``rotation_grace_s`` is how long the keys of before a source's rotation are believed when the call names no other
    time; at 0 they end at once, which is what a leaked key needs.
    """

    max_age_s: MaxAge = 60
    dedup_window_s: Seconds = 86400
    max_clock_skew_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 300
    rotation_grace_s: Annotated[int, msgspec.Meta(ge=0, le=604800)] = 0
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
    outside the hours of an exchange unless ``flatten_at_open``. At ``readiness_at`` (IST) the morning's report is made;
    with ``readiness_gate`` "block" entries wait until its checks have passed.
    """

    timezone: str = "Asia/Kolkata"
    enforce_hours: bool | None = None
    square_off_at: str = "15:20"
    square_off_by_exchange: dict[Exchange, str] = {}
    auto_square_off: bool | None = None
    square_off_delivery: bool = False
    flatten_at_open: bool = False
    readiness_at: str = "08:45"
    readiness_gate: Literal["warn", "block"] = "warn"
    holidays: tuple[str, ...] = ()
    special_sessions: tuple[SessionConfig, ...] = ()

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of every clock time in the configuration."""
        return ZoneInfo(self.timezone)

    @property
    def readiness_time(self) -> time:
        """When on trading days the morning's report is made, IST."""
        return time.fromisoformat(self.readiness_at)

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
    """``[security]``: keys, and the lives of tokens. A key of None is made at first start and kept.

    ``master_key_previous`` is the master key before this one, until `engine keys rotate` has retired it.
    ``require_mfa`` says who may do nothing but enrol a second factor until it is done. ``admin_email`` is whom the
    first start makes.
    """

    master_key: Secret | None = None
    master_key_previous: Secret | None = None
    jwt_secret: Secret | None = None
    jwt_secret_previous: Secret | None = None
    access_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 900
    refresh_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] = 1_209_600
    refresh_idle_s: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] = 43_200
    registration: Literal["closed", "open"] = "closed"
    require_mfa: Literal["off", "admin", "all"] = "off"
    two_admins: bool = False
    metrics_token: Secret = Secret("")
    admin_email: str = "admin@localhost"


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


class BackupConfig(Section, frozen=True, kw_only=True):
    """``[backup]``: the daily backup; none is made while ``dir`` is empty. ``at`` is IST, ``keep`` counts files.

    ``after`` is a command with its arguments that takes each file off the box: ``{file}`` and ``{name}`` stand for its
    path and name. A last backup older than ``old_after_h`` hours is an alert.
    """

    dir: str = ""
    at: str = "02:30"
    keep: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 7
    old_after_h: Annotated[int, msgspec.Meta(ge=25, le=8760)] = 48
    after: tuple[str, ...] = ()

    @property
    def time(self) -> time:
        """When it is made, IST."""
        return time.fromisoformat(self.at)


class LoggingConfig(Section, frozen=True, kw_only=True):
    """``[logging]``: log files by day; ``console`` is what stderr shows.

    ``audit`` is whether audit records are written to files too; ``max_file_mb`` bounds one file, of several a day.
    """

    dir: str = "logs"
    level: Literal["debug", "info", "warn", "error"] = "info"
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 90
    console: Literal["auto", "readable", "json", "off"] = "auto"
    max_file_mb: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512
    audit: bool = True


class MetricsConfig(Section, frozen=True, kw_only=True):
    """``[metrics]``: up to how many accounts /metrics has series of their own."""

    accounts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 25


class TracingConfig(Section, frozen=True, kw_only=True):
    """``[tracing]``: where OpenTelemetry traces go (OTLP over HTTP); none are made while ``otlp_url`` is empty."""

    otlp_url: str = ""
    authorization: Secret = Secret("")
    sample_pct: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100


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
    backup: BackupConfig = BackupConfig()
    logging: LoggingConfig = LoggingConfig()
    alerts: AlertsConfig = AlertsConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()

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


def masked_url(url: str) -> str:
    """Return *url* without the passwords that may be in it."""
    # A password may stand before the last @ or among the parameters; what is left tells two servers apart.
    scheme, mark, rest = url.partition("://")
    return (
        f"{scheme}://***{rest.rpartition('@')[2].partition('?')[0]}" if mark and ("@" in rest or "?" in rest) else url
    )

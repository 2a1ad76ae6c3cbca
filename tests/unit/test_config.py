"""The configuration: defaults, file, environment, secrets, and the words of every refusal."""

import json
import os
import pickle
import re
import tomllib
from datetime import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Config, DatabaseConfig, decode_key, load, resolve_secret
from engine.config.checks import CHECKS, is_loopback
from engine.config.loading import leaves
from engine.config.shown import shown
from engine.domain.enums import Exchange, ProductType
from engine.domain.limits import TradingWindow
from engine.errors import ConfigError
from engine.secret import Secret

EXAMPLE = Path(__file__).parents[2] / "engine.toml.example"
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0"


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "engine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path | None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def config_or_refusal(environ: dict[str, str]) -> Config | str:
    try:
        return load(None, environ)
    except ConfigError as error:
        return str(error)


# Defaults and the example


def test_load_without_file_gives_contract_defaults():
    config = load(None, {})
    assert config == Config()
    assert (config.server.host, config.server.port, config.server.trusted_proxies) == ("127.0.0.1", 8080, ())
    assert (config.database.url, config.redis.url, config.broker.mode) == ("embedded", "embedded", "paper")
    assert (config.signals.max_age_s, config.signals.dedup_window_s, config.signals.max_clock_skew_s) == (
        60,
        86400,
        300,
    )
    assert (config.broker.kite.orders_per_second, config.broker.kite.timeout_s) == (10, 7)
    assert (config.security.access_ttl_s, config.security.refresh_ttl_s) == (900, 1209600)
    assert config.security.master_key is None
    assert config.market.square_off_times[Exchange.NFO] == time(15, 20)
    assert config.market.zone.key == "Asia/Kolkata"


def test_example_loaded_equals_defaults():
    assert load(EXAMPLE, {}) == Config()


def test_example_writes_out_every_key():
    written = set()

    def walk(table, prefix):
        for name, value in table.items():
            if isinstance(value, dict) and value:
                walk(value, f"{prefix}{name}.")
            else:
                written.add(prefix + name)

    walk(tomllib.loads(EXAMPLE.read_text()), "")
    assert set(leaves(Config)) - written == {
        "market.enforce_hours",
        "market.auto_square_off",
        "security.master_key",
        "security.master_key_previous",
        "security.jwt_secret",
        "security.jwt_secret_previous",
    }
    for name in ("enforce_hours", "auto_square_off", "master_key", "master_key_previous", "jwt_secret"):
        assert re.search(rf"^# {name} = ", EXAMPLE.read_text(), re.MULTILINE)


def test_example_explains_every_group_of_keys():
    # A key directly under its section's name would have no words about it.
    assert not re.search(r"^\[[a-z.]+\]\n[a-z_]+ =", EXAMPLE.read_text(), re.MULTILINE)


def test_every_check_names_an_existing_key():
    assert set(CHECKS) <= set(leaves(Config))


def test_risk_limits_of_defaults_allow_an_order_of_some_lakhs():
    limits = load(None, {}).risk.limits()
    assert limits.max_order_value is not None
    assert limits.max_order_value >= 900_000
    assert limits.max_position_pct == 100
    assert limits.trading_window is None
    assert limits.duplicate_window_s is None


# The file


def test_load_file_sets_values_of_every_type(write):
    path = write(
        """
        [server]
        port = 0
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [broker]
        mode = "kite"
        [broker.kite]
        timeout_s = 2.5
        orders_per_second = 3
        [risk]
        max_daily_loss_pct = 1.25
        max_order_value = 50000
        max_open_positions = "none"
        allowed_exchanges = ["NSE", "NFO"]
        allowed_products = ["MIS"]
        trading_window = { start = "09:15", end = "15:20" }
        [security]
        two_admins = true
        """
    )
    config = load(path, {})
    assert config.server.port == 0
    assert config.server.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.broker.mode == "kite"
    assert config.broker.kite.timeout_s == 2.5
    assert isinstance(config.risk.max_daily_loss_pct, Decimal)
    limits = config.risk.limits()
    assert limits.max_daily_loss_pct == Decimal("1.25")
    assert limits.max_open_positions is None
    assert limits.allowed_exchanges == (Exchange.NSE, Exchange.NFO)
    assert limits.allowed_products == (ProductType.MIS,)
    assert limits.trading_window == TradingWindow(start="09:15", end="15:20")
    assert config.security.two_admins is True


@pytest.mark.parametrize(
    ("mode", "stated", "expected"),
    [("paper", None, False), ("kite", None, True), ("paper", "true", True), ("kite", "false", False)],
)
def test_enforce_hours_follows_mode_unless_stated(mode, stated, expected):
    environ = {"ENGINE__BROKER__MODE": mode}
    if stated:
        environ["ENGINE__MARKET__ENFORCE_HOURS"] = stated
    assert load(None, environ).enforce_hours is expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nprot = 1", ("'server.prot'", "unknown key", "nearest known: port")),
        ("[sever]\nport = 1", ("'sever'", "unknown section", "nearest known: server")),
        ("[broker.kite]\nroot = 'x'", ("'broker.kite.root'", "root_url")),
        ("port = 1", ("'port'", "unknown section")),
        ("server = 5", ("server: expected a table [server]",)),
        ("[broker]\nkite = 5", ("broker.kite: expected a table [broker.kite]",)),
        ("[server]\nport = '80'", ("server.port: expected a whole number from 0 to 65535",)),
        ("[server]\nport = true", ("server.port: expected a whole number",)),
        ("[server]\nport = 80.0", ("server.port: expected a whole number",)),
        ("[server]\nport = -1", ("server.port: expected a whole number",)),
        ("[server]\nport = 65536", ("server.port: expected a whole number",)),
        ("[server]\nhost = 1", ("server.host: expected a text in quotes",)),
        ("[server]\nhost = ''", ("server.host: expected a host name",)),
        ("[server]\ntrusted_proxies = 'x'", ("server.trusted_proxies: expected a list",)),
        ("[server]\ntrusted_proxies = ['10.0.0.1/0']", ("server.trusted_proxies: expected a list of IP",)),
        ("[server]\npublic_url = 'ftp://x'", ("server.public_url: expected an address",)),
        ("[signals]\nmax_age_s = 0", ("signals.max_age_s: expected a whole number from 1 to 119",)),
        ("[signals]\nmax_age_s = 120", ("signals.max_age_s: expected a whole number from 1 to 119",)),
        ("[broker]\nmode = 'live'", ('broker.mode: expected one of "kite", "paper"',)),
        ("[broker.kite]\ntimeout_s = 0", ("broker.kite.timeout_s: expected a number above 0",)),
        ("[broker.kite]\ntimeout_s = nan", ("broker.kite.timeout_s: expected a number",)),
        ("[broker.kite]\ntimeout_s = '7'", ("broker.kite.timeout_s: expected a number",)),
        ("[risk]\nmax_order_value = '5'", ("risk.max_order_value: expected a number",)),
        ("[risk]\nmax_order_value = true", ("risk.max_order_value: expected a number",)),
        ("[risk]\nmax_order_value = 0", ("risk.max_order_value: expected a number above 0",)),
        ("[risk]\nmax_order_value = nan", ("risk.max_order_value: expected a number above 0",)),
        ("[risk]\nmax_order_value = inf", ("risk.max_order_value: expected a number above 0",)),
        ("[risk]\nmax_daily_loss_pct = -1", ("risk.max_daily_loss_pct: expected a number above 0",)),
        ("[risk]\nallowed_exchanges = ['NYSE']", ("risk.allowed_exchanges: expected a list", '"NSE"')),
        ("[risk]\ntrading_window = {start='9:15', end='15:20'}", ("risk.trading_window: expected {start",)),
        ("[risk]\ntrading_window = {start='15:20', end='09:15'}", ("risk.trading_window: expected {start",)),
        ("[risk]\ntrading_window = {start='09:15', end='15:20', x=1}", ("risk.trading_window: expected a table",)),
        ("[market]\ntimezone = 'Mars/Olympus'", ("market.timezone: expected the name of a time zone",)),
        ("[market]\ntimezone = '../../etc/passwd'", ("market.timezone: expected",)),
        ("[market]\ntimezone = 'Asia'", ("market.timezone: expected",)),
        ("[market]\nholidays = ['20261124']", ("market.holidays: expected a list of dates",)),
        ("[market]\nholidays = '2026-11-24'", ("market.holidays: expected a list",)),
        (
            "[market]\nspecial_sessions = [{date = '2026-11-08', start = '19:00', end = '18:00'}]",
            ("market.special_sessions: expected", "start before the end"),
        ),
        (
            "[market]\nspecial_sessions = [{date = '2026-11-08', start = '18:00', end = '19:00', exchange = 'LSE'}]",
            ("market.special_sessions: expected a list",),
        ),
        ("[signals]\naliases = { mm = 'M&M' }", ("signals.aliases: expected symbols in capital letters",)),
        ("[signals]\naliases = { A = 'B', B = 'INFY' }", ("signals.aliases: expected names of symbols, none",)),
        ("[signals]\naliases = { A = 1 }", ("signals.aliases: expected a table of texts",)),
        (
            "[risk]\nprofit_lock_trigger_amount = 5000",
            (
                "risk.profit_lock_trigger_amount: does nothing without risk.profit_lock_giveback_pct",
                "set both or neither",
            ),
        ),
        (
            "[risk]\ncooldown_s = 600\ncooldown_after_losses = 'none'",
            ("risk.cooldown_s: does nothing without risk.cooldown_after_losses",),
        ),
        ("[market]\nsquare_off_at = '24:00'", ("market.square_off_at: expected a clock time HH:MM",)),
        ("[market]\nsquare_off_at = 15:20:00", ("market.square_off_at: expected a text",)),
        ("[market]\nenforce_hours = 1", ('market.enforce_hours: expected true or false, or "none"',)),
        ("[security]\nregistration = 'maybe'", ("security.registration: expected one of",)),
        ("[security]\naccess_ttl_s = 0", ("security.access_ttl_s: expected a whole number",)),
        ("[logging]\nlevel = 'loud'", ("logging.level: expected one of",)),
        ("[logging]\ndir = ''", ("logging.dir: expected the name of a folder",)),
        ("[database]\nurl = 'mysql://x'", ('database.url: expected "embedded"', "postgresql://")),
        ("[database]\nurl = 'postgresql://'", ("database.url: expected",)),
        ("[redis]\nurl = 'http://x'", ('redis.url: expected "embedded"',)),
        ("[telegram]\nbot_token = 'changeme'", ("telegram.bot_token: expected a token", "placeholder")),
        ("[telegram]\nsecret_token = 'a b'", ("telegram.secret_token: expected 1 to 256",)),
        ("[telegram]\nbot_token = 5", ("telegram.bot_token: expected a secret",)),
        ("[server\n", ("is not TOML", "line 1")),
        ("[server]\nport = 1\nport = 2", ("is not TOML",)),
    ],
)
def test_load_bad_file_is_refused_with_file_key_and_wish(write, text, parts):
    path = write(text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    for part in parts:
        assert part in message


def test_load_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "engine.toml")


def test_load_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "engine.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in refusal(path)


# The environment


def test_environment_overrides_file_for_every_type(write):
    path = write("[server]\nport = 1\n[logging]\nlevel = 'error'")
    config = load(
        path,
        {
            "ENGINE__SERVER__PORT": "9000",
            "ENGINE__SERVER__TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1",
            "ENGINE__BROKER__KITE__ROOT_URL": "http://127.0.0.1:5000",
            "ENGINE__BROKER__KITE__TIMEOUT_S": "1.5",
            "ENGINE__RISK__MAX_ORDER_VALUE": "2500.50",
            "ENGINE__RISK__MAX_OPEN_POSITIONS": "None",
            "ENGINE__RISK__ALLOWED_EXCHANGES": '["NSE", "BSE"]',
            "ENGINE__RISK__TRADING_WINDOW": '{"start": "10:00", "end": "11:00"}',
            "ENGINE__MARKET__ENFORCE_HOURS": "True",
            "ENGINE__TELEGRAM__BOT_TOKEN": "1:abc",
            "ENGINE_ADMIN_PASSWORD": "not a key of the file",
            "PATH": "/bin",
        },
    )
    assert config.server.port == 9000
    assert config.server.trusted_proxies == ("10.0.0.0/8", "127.0.0.1")
    assert config.broker.kite.root_url == "http://127.0.0.1:5000"
    assert config.broker.kite.timeout_s == 1.5
    assert config.risk.max_order_value == Decimal("2500.50")
    assert config.risk.max_open_positions is None
    assert config.risk.allowed_exchanges == (Exchange.NSE, Exchange.BSE)
    assert config.risk.limits().trading_window == TradingWindow(start="10:00", end="11:00")
    assert config.market.enforce_hours is True
    assert config.telegram.bot_token.reveal() == "1:abc"
    assert config.logging.level == "error"


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("ENGINE__SERVER__PROT", "1", ("unknown variable", "nearest known: ENGINE__SERVER__PORT")),
        ("ENGINE__SERVER", "1", ("unknown variable",)),
        ("ENGINE__server__port", "1", ("unknown variable", "nearest known: ENGINE__SERVER__PORT")),
        ("ENGINE__BROKER__ROOT_URL", "x", ("unknown variable", "ENGINE__BROKER__KITE__ROOT_URL")),
        ("ENGINE__SERVER__PORT", "80a", ("server.port: expected a whole number",)),
        ("ENGINE__SERVER__PORT", "", ("server.port: expected a whole number",)),
        ("ENGINE__SERVER__PORT", "9_000", ("server.port: expected a whole number",)),
        ("ENGINE__SERVER__PORT", "٩", ("server.port: expected a whole number",)),
        ("ENGINE__SERVER__PORT", "9" * 5000, ("server.port: expected a whole number",)),
        ("ENGINE__MARKET__ENFORCE_HOURS", "perhaps", ("market.enforce_hours: expected true or false",)),
        ("ENGINE__RISK__MAX_ORDER_VALUE", "1e5", ("risk.max_order_value: expected a number",)),
        ("ENGINE__RISK__MAX_ORDER_VALUE", "NaN", ("risk.max_order_value: expected a number",)),
        ("ENGINE__RISK__ALLOWED_EXCHANGES", "[", ("risk.allowed_exchanges: expected a list",)),
        ("ENGINE__RISK__ALLOWED_EXCHANGES", "NSE,NYSE", ("risk.allowed_exchanges: expected a list",)),
        ("ENGINE__RISK__TRADING_WINDOW", "[" * 100_000, ("risk.trading_window: expected a table",)),
        ("ENGINE__SIGNALS__MAX_AGE_S", "120", ("signals.max_age_s: expected a whole number from 1 to 119",)),
    ],
)
def test_environment_bad_variable_is_refused_by_name(name, value, parts):
    message = refusal(None, {name: value})
    assert message.startswith(f"{name}: ")
    assert len(message) < 2000
    for part in parts:
        assert part in message


@given(
    key=st.sampled_from(sorted(leaves(Config))),
    value=st.text(max_size=40) | st.sampled_from(["file:x", "env:Y", "1", "[1"]),
)
def test_environment_any_value_gives_config_or_named_refusal(key, value):
    name = f"ENGINE__{key.upper().replace('.', '__')}"
    outcome = config_or_refusal({name: value})
    assert isinstance(outcome, Config) or outcome.startswith(f"{name}: {key}: ")


def test_environment_list_may_be_empty(write):
    path = write("[server]\ntrusted_proxies = ['10.0.0.0/8']")
    assert load(path, {"ENGINE__SERVER__TRUSTED_PROXIES": ""}).server.trusted_proxies == ()


# Addresses


@pytest.mark.parametrize(
    "url",
    ["https://api.kite.trade", "http://127.0.0.1:5000", "http://localhost", "http://[::1]:1", "https://x/prefix"],
)
def test_broker_root_url_secure_or_loopback_is_accepted(url):
    assert load(None, {"ENGINE__BROKER__KITE__ROOT_URL": url}).broker.kite.root_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.kite.trade",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1\\@evil.example",
        "https://user:pass@api.kite.trade",
        "https://evil.example\\.kite.trade",
        "https://api.kite.trade?x=1",
        "https://api.kite.trade#x",
        "http://127.0.0.1:99999",
        "http://127.0.0.1 .evil.example",
        "http://[::1",
        "ws://127.0.0.1",
        "api.kite.trade",
        "https://",
        "",
    ],
)
def test_broker_root_url_plain_or_odd_is_refused(url):
    message = refusal(None, {"ENGINE__BROKER__KITE__ROOT_URL": url})
    assert "broker.kite.root_url: expected a https:// address" in message


@pytest.mark.parametrize("url", ["wss://ws.kite.trade", "ws://127.0.0.1:9/x"])
def test_broker_ws_url_secure_or_loopback_is_accepted(url):
    assert load(None, {"ENGINE__BROKER__KITE__WS_URL": url}).broker.kite.ws_url == url


@pytest.mark.parametrize("url", ["ws://ws.kite.trade", "https://ws.kite.trade", "http://127.0.0.1"])
def test_broker_ws_url_plain_or_wrong_scheme_is_refused(url):
    assert "broker.kite.ws_url: expected a wss:// address" in refusal(None, {"ENGINE__BROKER__KITE__WS_URL": url})


def test_telegram_api_url_plain_outside_loopback_is_refused():
    assert "telegram.api_url" in refusal(None, {"ENGINE__TELEGRAM__API_URL": "http://api.telegram.org"})


def test_server_host_outside_loopback_is_allowed():
    assert load(None, {"ENGINE__SERVER__HOST": "0.0.0.0"}).server.host == "0.0.0.0"  # noqa: S104 -- a value, not a bind


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "LOCALHOST"])
def test_is_loopback_of_this_machine_is_true(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "example.com", "127.1.example", "0.0.0.0", "8.8.8.8", "localhost.", "0x7f000001"])  # noqa: S104
def test_is_loopback_of_anything_else_is_false(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://:pw@h", "unix:///run/valkey.sock", "embedded"])
def test_redis_url_of_every_scheme_is_accepted(url):
    assert load(None, {"ENGINE__REDIS__URL": url}).redis.url == url


# Secrets


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys" / "jwt.key"
    path.parent.mkdir()
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def test_secret_from_file_is_relative_to_config_and_stripped(write, key_file):
    config = load(write('[security]\njwt_secret = "file:keys/jwt.key"'), {})
    assert config.security.jwt_secret is not None
    assert config.security.jwt_secret.reveal() == KEY


def test_secret_from_file_read_only_for_owner_is_accepted(key_file, tmp_path):
    key_file.chmod(0o400)
    assert resolve_secret("file:keys/jwt.key", tmp_path, {}).reveal() == KEY


def test_secret_from_absolute_file_ignores_base(key_file):
    assert resolve_secret(f"file:{key_file}", Path("/nowhere"), {}).reveal() == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_secret_file_open_to_others_is_refused_with_chmod(write, key_file, mode):
    key_file.chmod(mode)
    message = refusal(write('[security]\njwt_secret = "file:keys/jwt.key"'))
    assert f"chmod 600 {key_file}" in message
    assert "security.jwt_secret" in message
    assert KEY not in message


def test_secret_file_of_another_user_is_refused_with_chown(key_file, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: key_file.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another user: chown"):
        resolve_secret("file:keys/jwt.key", tmp_path, {})


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\xff", "is not text"), (b"x" * 70_000, "over 65536")],
)
def test_secret_file_with_unusable_content_is_refused(key_file, tmp_path, content, reason):
    key_file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        resolve_secret("file:keys/jwt.key", tmp_path, {})


def test_secret_file_that_is_missing_or_no_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*no such file"):
        resolve_secret("file:gone", tmp_path, {})
    with pytest.raises(ConfigError, match="is not a file"):
        resolve_secret("file:.", tmp_path, {})
    with pytest.raises(ConfigError, match="not a path"):
        resolve_secret("file:a\x00b", tmp_path, {})
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is not a file"):
        resolve_secret("file:pipe", tmp_path, {})


def test_secret_from_environment_is_taken():
    config = load(None, {"ENGINE__SECURITY__MASTER_KEY": "env:MY_KEY", "MY_KEY": KEY})
    assert config.security.master_key == Secret(KEY)


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": ""}])
def test_secret_from_unset_environment_is_refused(environ):
    message = refusal(None, {"ENGINE__SECURITY__MASTER_KEY": "env:MY_KEY", **environ})
    assert "security.master_key: environment variable MY_KEY is not set" in message


def test_database_url_is_resolved_like_a_secret_and_masked():
    config = load(
        None, {"ENGINE__DATABASE__URL": "env:DSN", "DSN": "postgresql://engine:hunter2@db/trading?password=x"}
    )
    assert config.database.url == "postgresql://engine:hunter2@db/trading?password=x"
    assert not config.database.is_embedded
    assert "hunter2" not in repr(config)
    assert repr(config.database) == "DatabaseConfig(url='postgresql://***db/trading')"
    assert repr(DatabaseConfig()) == "DatabaseConfig(url='embedded')"


@pytest.mark.parametrize("key", ["master_key", "jwt_secret"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("short", "has 5 bytes, expected at least 32"),
        ("", "has 0 bytes"),
        ("0" * 64, "placeholder"),
        ("a" * 40, "placeholder"),
        ("changeme-changeme-changeme-changeme", "placeholder"),
        ("please CHANGE ME before going to production", "placeholder"),
        ("your-very-long-secret-goes-in-this-place", "placeholder"),
    ],
)
def test_key_that_is_weak_is_refused_without_quoting_it(key, value, reason):
    message = refusal(None, {f"ENGINE__SECURITY__{key.upper()}": value})
    assert f"security.{key}: " in message
    assert reason in message
    assert len(value) < 10 or value not in message


def test_decode_key_of_hex_gives_its_bytes():
    assert decode_key(KEY) == decode_key(KEY.upper()) == bytes.fromhex(KEY)


@pytest.mark.parametrize("end", ["", "="])
def test_decode_key_of_base64url_gives_its_bytes(end):
    raw = bytes(range(200, 232))
    assert decode_key("yMnKy8zNzs_Q0dLT1NXW19jZ2tvc3d7f4OHi4-Tl5uc" + end) == raw


def test_decode_key_of_text_gives_its_utf8():
    text = "correct horse battery staple, four times over"
    assert decode_key(text) == text.encode()
    assert decode_key("घोड़ा बैटरी स्टेपल") == "घोड़ा बैटरी स्टेपल".encode()


def test_decode_key_of_64_characters_that_are_not_hex_is_text():
    text = "g" + KEY[1:]
    assert decode_key(text) == text.encode()


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r}".format, lambda s: f"{s}", lambda s: "%s" % s])  # noqa: UP031
def test_secret_shown_is_stars(show):
    assert show(Secret("hunter2")) == "***"


def test_secret_in_containers_and_json_is_never_the_text():
    secret = Secret("hunter2")
    assert "hunter2" not in repr([secret, {"k": secret}])
    assert json.dumps({"k": secret}, default=str) == '{"k": "***"}'
    assert msgspec.json.encode({"k": secret}, enc_hook=str) == b'{"k":"***"}'
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_secret_format_keeps_width_but_not_text():
    assert f"{Secret('hunter2'):>5}" == "  ***"


def test_secret_equality_hash_and_truth():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a")
    assert not Secret("")


def test_secret_refuses_to_be_pickled():
    with pytest.raises(TypeError, match="not to be copied"):
        pickle.dumps(Secret("hunter2"))


def test_config_shown_holds_no_secret():
    config = load(
        None,
        {
            "ENGINE__SECURITY__JWT_SECRET": KEY,
            "ENGINE__TELEGRAM__BOT_TOKEN": "12345:hunter2",
            "ENGINE__REDIS__URL": "rediss://:hunter2@h:6379/0",
        },
    )
    assert KEY not in repr(config)
    assert "hunter2" not in f"{config!r} {config}"


def test_settings_to_look_at_name_every_key_and_tell_of_a_secret_only_that_it_is_set():
    environ = {
        "ENGINE__SECURITY__JWT_SECRET": KEY,
        "ENGINE__TELEGRAM__BOT_TOKEN": "12345:hunter2",
        "ENGINE__DATABASE__URL": "postgresql://me:hunter2@h:5432/engine",
        "ENGINE__REDIS__URL": "rediss://:hunter2@h:6379/0",
        "ENGINE__ALERTS__NTFY__URL": "https://ntfy.example/hunter2",
        "ENGINE__BACKUP__AFTER": "rclone, --password, hunter2",
        "ENGINE__TRACING__OTLP_URL": "https://otlp.example:4318/hunter2/v1/traces",
        "ENGINE__RISK__TRADING_WINDOW": '{"start": "09:15", "end": "15:20"}',
    }
    found = shown(load(None, environ))
    assert "hunter2" not in repr(found)
    assert KEY not in repr(found)
    named = {f"{each.section}.{each.key}": each for each in found}
    assert set(named) >= {name for name in leaves(Config) if not name.startswith("risk.trading_window.")}
    token = named["telegram.bot_token"]
    assert (token.value, token.is_secret, token.is_set, token.is_default) == (None, True, True, False)
    master = named["security.master_key"]
    assert (master.is_secret, master.is_set, master.is_default) == (True, False, True)
    assert named["database.url"].value == "postgresql://***h:5432/engine"
    assert named["backup.after"].value == ["rclone", "…"]
    assert named["tracing.otlp_url"].value == "https://otlp.example:4318/…"
    assert named["risk.trading_window"].value == {"start": "09:15", "end": "15:20"}
    assert (named["server.port"].value, named["server.port"].is_default) == (8080, True)


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        load(None, {}).server.port = 1


def test_aliases_and_sessions_are_read_from_file_and_environment(tmp_path):
    file = tmp_path / "engine.toml"
    file.write_text(
        "[signals.aliases]\nMYBANK = 'HDFCBANK'\nCALL = 'NIFTY ATM+1 CE'\n"
        "[market]\nholidays = ['2027-01-15']\n"
        "special_sessions = [{ date = '2026-11-08', start = '18:00', end = '19:00' }]\n"
    )
    config = load(file, {})
    assert config.signals.aliases == {"MYBANK": "HDFCBANK", "CALL": "NIFTY ATM+1 CE"}
    assert config.market.holidays == ("2027-01-15",)
    (session,) = config.market.special_sessions
    assert (session.date, session.start, session.exchange) == ("2026-11-08", "18:00", None)
    environ = {
        "ENGINE__SIGNALS__ALIASES": '{"MM": "RELIANCE"}',
        "ENGINE__MARKET__SPECIAL_SESSIONS": '[{"date":"2026-11-09","start":"18:00","end":"19:00","exchange":"MCX"}]',
        "ENGINE__MARKET__HOLIDAYS": "2027-01-15, 2027-01-18",
    }
    config = load(file, environ)
    assert config.signals.aliases == {"MM": "RELIANCE"}
    assert config.market.special_sessions[0].exchange == "MCX"
    assert config.market.holidays == ("2027-01-15", "2027-01-18")

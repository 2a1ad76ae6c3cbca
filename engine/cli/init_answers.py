"""What ``engine init`` was told, and the configuration and secret files that follow from it."""

import json
from pathlib import Path

import msgspec

_DEFAULT_EMAIL = "admin@localhost"
EMBEDDED = "embedded"


class KiteApp(msgspec.Struct, frozen=True, kw_only=True):
    """An app of developers.kite.trade, for the account that is added after the first start; ``capital`` in rupees."""

    api_key: str
    api_secret: str
    label: str = "zerodha"
    capital: int | None = None


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """The answers, each with what is taken when nobody is asked."""

    mode: str = "paper"
    kite: KiteApp | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    admin_email: str = _DEFAULT_EMAIL
    bot_token: str = ""
    database_url: str = EMBEDDED
    redis_url: str = EMBEDDED

    def next_steps(self) -> list[str]:
        """Return what to do after this, a line each."""
        steps = []
        if self.kite is not None:
            steps.append(
                "keys/account.json holds the account: after the first start send it once with "
                "`api POST /accounts @keys/account.json` (README), then delete it"
            )
        if self.bot_token:
            steps.append("Telegram: `engine doctor` tells whether the bot answers; README tells who may signal")
        return steps


def configuration(answers: Answers, *, keys: Path) -> tuple[str, dict[str, str]]:
    """Return the text of engine.toml, which holds no secret, and the secrets by the name of their file in ``keys/``.

    *keys* is the folder of the master key, as engine.toml names it.
    """
    files: dict[str, str] = {}

    def store(name: str, url: str) -> str:
        # a password may stand in it
        if "@" not in url and "?" not in url:
            return url
        files[name] = url
        return f"file:keys/{name}"

    server = [f"host = {_text(answers.host)}", f"port = {answers.port}"]
    if answers.public_url:
        server.append(f"public_url = {_text(answers.public_url)}")
    if answers.trusted_proxies:
        server.append(f"trusted_proxies = {json.dumps(list(answers.trusted_proxies))}")
    if answers.tls_cert:
        server += [f"tls_cert = {_text(answers.tls_cert)}", f"tls_key = {_text(answers.tls_key)}"]
    database = _text(store("database.url", answers.database_url))
    redis = _text(store("redis.url", answers.redis_url))
    sections = [
        ("server", server),
        ("database", [f"url = {database}    # or postgresql://user@host/database"]),
        ("redis", [f"url = {redis}    # or redis://host:6379/0, unix:///path/to.sock"]),
        ("broker", [f"mode = {_text(answers.mode)}      # or {'kite' if answers.mode == 'paper' else 'paper'}"]),
    ]
    security = [f'master_key = "file:{keys}/master.key"', f'jwt_secret = "file:{keys}/jwt.key"']
    if answers.admin_email != _DEFAULT_EMAIL:
        security.append(f"admin_email = {_text(answers.admin_email)}")
    if answers.bot_token:
        files["telegram.token"] = answers.bot_token
        sections.append(("telegram", ['bot_token = "file:keys/telegram.token"', 'mode = "polling"']))
    sections.append(("security", security))
    if answers.kite is not None:
        files["account.json"] = _account(answers.kite)
    parts = [
        "# Configuration of the trading execution engine. Every key is described in engine.toml.example;\n"
        "# what is left out has its default. Unknown keys are refused.\n"
    ]
    parts += [f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections]
    return "\n".join(parts), files


def _account(app: KiteApp) -> str:
    body: dict[str, object] = {
        "label": app.label,
        "broker": "kite",
        "apiKey": app.api_key,
        "apiSecret": app.api_secret,
    }
    if app.capital is not None:
        body["capital"] = app.capital
    return json.dumps(body)


def _text(value: str) -> str:
    """Return *value* as TOML writes a text; JSON writes it in the same way."""
    return json.dumps(value)

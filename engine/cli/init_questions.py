"""The questions of ``engine init``: each with a default, asked again until a start would take the answer."""

from collections.abc import Callable
from typing import Any

import typer

from engine.cli.init_answers import EMBEDDED, Answers, KiteApp
from engine.config.checks import CHECKS, is_loopback
from engine.errors import ConfigError
from engine.secret import Secret


def ask() -> Answers:
    """Ask on the terminal. Raises typer.Abort on Ctrl-C or Ctrl-D."""
    standard = Answers()
    typer.echo("A few questions; Enter takes what stands in brackets. Everything can be changed in engine.toml later.")
    mode = _ask("Trade on paper, or live on Zerodha (paper, kite)", "paper", _one_of("paper", "kite"))
    kite = _kite() if mode == "kite" else None
    host = _ask("Address to listen on", standard.host, _checked("server.host"))
    port = int(_ask("Port", str(standard.port), _port))
    public_url = _ask(
        "How it is reached from outside, such as https://engine.example.com (empty: not at all)",
        "",
        _checked("server.public_url"),
    )
    proxies: tuple[str, ...] = ()
    cert = key = ""
    if public_url and is_loopback(host):
        if typer.confirm("Does a proxy on this machine, such as nginx, do TLS for it?", default=True):
            proxies = ("127.0.0.1", "::1")
    elif not is_loopback(host):
        typer.echo("On such an address the engine speaks HTTPS only, or to a proxy.")
        cert = _ask("Certificate with its chain, a PEM file (empty: a proxy in front does TLS)", "", _anything)
        if cert:
            key = _ask("Its private key, a PEM file", "", _needed)
        else:
            proxies = (_ask("Address or network of that proxy", "127.0.0.1", _network),)
    return Answers(
        mode=mode,
        kite=kite,
        host=host,
        port=port,
        public_url=public_url,
        trusted_proxies=proxies,
        tls_cert=cert,
        tls_key=key,
        admin_email=_ask("E-mail of the first administrator", standard.admin_email, _checked("security.admin_email")),
        bot_token=_secret("Token of a Telegram bot (empty: none)", _checked("telegram.bot_token", Secret)),
        database_url=_ask(
            "PostgreSQL: embedded, or postgresql://user:password@host/name", EMBEDDED, _checked("database.url")
        ),
        redis_url=_ask("Valkey or Redis: embedded, or redis://…", EMBEDDED, _checked("redis.url")),
    )


def _kite() -> KiteApp | None:
    typer.echo("The app of developers.kite.trade; empty to add the account later.")
    api_key = _ask("API key", "", _anything)
    if not api_key:
        return None
    api_secret = _secret("API secret", _needed)
    capital = _ask("Capital in rupees (empty: read off its margins)", "", _rupees)
    return KiteApp(api_key=api_key, api_secret=api_secret, capital=int(capital) if capital else None)


Check = Callable[[str], str | None]
"""Returns what was expected instead, None for an answer that will do."""


def _ask(question: str, default: str, check: Check) -> str:
    while True:
        answer = str(typer.prompt(question, default=default, show_default=bool(default))).strip()
        wish = check(answer)
        if wish is None:
            return answer
        typer.echo(f"  expected {wish}")


def _secret(question: str, check: Check) -> str:
    while True:
        answer = str(typer.prompt(question, default="", show_default=False, hide_input=True)).strip()
        wish = check(answer)
        if wish is None:
            return answer
        typer.echo(f"  expected {wish}")


def _checked(key: str, convert: Callable[[str], Any] | None = None) -> Check:
    """Return the check that a start makes of the configuration's *key*."""

    def check(answer: str) -> str | None:
        try:
            return CHECKS[key](answer if convert is None else convert(answer))
        except ConfigError as error:
            return str(error)

    return check


def _one_of(*words: str) -> Check:
    return lambda answer: None if answer in words else " or ".join(words)


def _anything(_answer: str) -> str | None:
    return None


def _needed(answer: str) -> str | None:
    return None if answer else "an answer"


def _port(answer: str) -> str | None:
    return None if answer.isdecimal() and 1 <= int(answer) <= 65535 else "a number from 1 to 65535"


def _rupees(answer: str) -> str | None:
    return None if not answer or (answer.isdecimal() and int(answer) > 0) else "a whole number of rupees, or nothing"


def _network(answer: str) -> str | None:
    return CHECKS["server.trusted_proxies"]((answer,))

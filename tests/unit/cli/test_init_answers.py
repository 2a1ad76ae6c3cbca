"""What `engine init` writes for its answers: a configuration that a start takes, and no secret in it."""

import json
from pathlib import Path

import pytest

from engine.cli import init_questions
from engine.cli.init_answers import Answers, KiteApp, configuration
from engine.config import load

KEY = "kQ0123456789abcdefghijklmnopqrstuv"
EVERYTHING = Answers(
    mode="kite",
    kite=KiteApp(api_key="kitekey", api_secret="kitesecret", capital=20000),
    public_url="https://engine.example.com",
    trusted_proxies=("127.0.0.1",),
    admin_email="asha@example.com",
    bot_token="12345:telegramtoken",
    database_url="postgresql://engine:databasepassword@db/engine",
    redis_url="rediss://:redispassword@cache:6379/0",
)


def written(tmp_path, answers):
    text, files = configuration(answers, keys=Path("keys"))
    (tmp_path / "keys").mkdir()
    for name, content in (files | {"master.key": KEY, "jwt.key": KEY[::-1]}).items():
        path = tmp_path / "keys" / name
        path.write_text(content)
        path.chmod(0o600)
    (tmp_path / "engine.toml").write_text(text)
    return text, files, load(tmp_path / "engine.toml", {})


def test_default_answers_are_the_defaults(tmp_path):
    text, files, config = written(tmp_path, Answers())
    assert files == {}
    assert (config.broker.mode, config.server.port, config.database.url) == ("paper", 8080, "embedded")
    assert "admin_email" not in text


def test_every_answer_is_taken_by_a_start_and_no_secret_stands_in_the_configuration(tmp_path):
    text, files, config = written(tmp_path, EVERYTHING)
    assert config.database.url == EVERYTHING.database_url
    assert config.redis.url == EVERYTHING.redis_url
    assert config.telegram.bot_token.reveal() == EVERYTHING.bot_token
    assert (config.telegram.mode, config.broker.mode) == ("polling", "kite")
    assert config.server.trusted_proxies == ("127.0.0.1",)
    assert config.security.admin_email == "asha@example.com"
    for secret in ("kitesecret", "kitekey", "telegramtoken", "databasepassword", "redispassword"):
        assert secret not in text
    assert json.loads(files["account.json"]) == {
        "label": "zerodha",
        "broker": "kite",
        "apiKey": "kitekey",
        "apiSecret": "kitesecret",
        "capital": 20000,
    }


def test_answer_that_a_start_would_refuse_is_asked_for_again(monkeypatch, capsys):
    given = iter(
        ["moon", "paper", "127.0.0.1", "99999", "9000", "ftp://x", "", "nobody", "a@b", "", "mysql://x", "embedded", ""]
    )
    monkeypatch.setattr(init_questions.typer, "prompt", lambda text, default="", **_: next(given) or default)
    answers = init_questions.ask()
    assert answers == Answers(port=9000, admin_email="a@b")
    shown = capsys.readouterr().out
    assert shown.count("  expected ") == 5


@pytest.mark.parametrize("host", ["192.0.2.7", "engine.example.com"])
def test_address_of_its_own_asks_for_a_certificate_or_a_proxy(monkeypatch, host):
    given = iter(["paper", host, "", "", "", "10.0.0.0/8", "", "", "", ""])
    monkeypatch.setattr(init_questions.typer, "prompt", lambda text, default="", **_: next(given) or default)
    assert init_questions.ask().trusted_proxies == ("10.0.0.0/8",)

"""Commands of linked users: what the second factor asks of /kill, and who is asked for it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest

from engine.domain.enums import Role
from engine.errors import ForbiddenError
from engine.http.origin import UpdateOrigin
from engine.http.telegram_control import obey
from engine.security.sessions import UserRecord
from engine.signals.chat_command import parse_command
from engine.signals.telegram import Update


class Codes:
    def __init__(self, *good):
        self.good = list(good)

    def is_enrolled(self, user_id):
        return True

    async def verify_otp(self, user_id, code):
        return code in self.good and not self.good.remove(code)


class Stand:
    def __init__(self, role=Role.ADMIN, codes=None):
        self.now, self.calls, self.refusal, self.message = datetime(2026, 11, 23, 5, tzinfo=UTC), [], None, 0
        self.user = UserRecord(
            id=uuid4(), email="a@b", name="a", role=role, password_hash="", token_epoch=0, disabled=False
        )
        extras = {"inner_calls": self.call, "second_factor": codes, "errands": None}
        self.services = SimpleNamespace(clock=SimpleNamespace(now=lambda: self.now), extras=extras)

    async def call(self, user, method, path, *, origin, request_id, query=None, body=None):
        if self.refusal is not None:
            raise self.refusal
        self.calls.append((user.id, method, path, body))

    async def say(self, text, chat=5):
        self.message += 1
        update = Update(update_id=self.message, chat_id=chat, sender_id=5, message_id=self.message, text=text)
        origin = UpdateOrigin(services=self.services, client_ip="x", request_id="r", base="")
        return await obey(origin, self.user, update, parse_command(text))


@pytest.mark.parametrize(("role", "scope"), [(Role.ADMIN, "global"), (Role.TRADER, "user:")])
async def test_kill_stops_what_the_role_reaches_after_the_word(role, scope):
    stand = Stand(role)
    await stand.say("/kill confirm")
    assert stand.calls == []
    assert "/kill confirm" in await stand.say("/kill")
    await stand.say("/kill CONFIRM lost control")
    ((who, method, path, body),) = stand.calls
    assert (who, method, path) == (stand.user.id, "POST", "/risk/killswitch/enable")
    assert body["scope"].startswith(scope)
    assert body["reason"] == "by Telegram: lost control"
    await stand.say("/kill confirm")
    assert len(stand.calls) == 1


async def test_kill_of_a_user_with_one_time_codes_needs_one_and_each_once():
    stand = Stand(codes=Codes("123456"))
    for answer in ("/kill confirm", "/kill confirm 654321", "/kill confirm now 123456"):
        assert "authenticator" in await stand.say("/kill")
        assert "not right" in await stand.say(answer)
    await stand.say("/kill")
    await stand.say("/kill confirm 123456 why not")
    assert [body["reason"] for *_, body in stand.calls] == ["by Telegram: why not"]
    await stand.say("/kill")
    assert "not right" in await stand.say("/kill confirm 123456")
    assert len(stand.calls) == 1


async def test_confirmation_counts_in_its_own_chat_and_time_only():
    stand = Stand()
    await stand.say("/kill")
    await stand.say("/kill confirm", chat=6)
    stand.now += timedelta(minutes=3)
    await stand.say("/kill confirm")
    assert stand.calls == []


async def test_refusal_of_the_api_is_told_on_one_line():
    stand = Stand()
    stand.refusal = ForbiddenError("no\nApproved: \u202eall")
    assert await stand.say("/positions") == "Not done: no Approved: all"


async def test_letting_go_is_not_to_be_had():
    stand = Stand()
    for text in ("/unkill", "/resume", "/killoff", "/kill off"):
        await stand.say(text)
    assert stand.calls == []

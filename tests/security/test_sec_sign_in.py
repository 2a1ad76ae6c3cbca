"""Attacks on passwords, codes, sessions and step-up (SEC-001 to SEC-012, SEC-021, SEC-024 to SEC-029, SEC-109)."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import argon2
import bcrypt
import pytest

from engine.clock import SystemClock
from engine.config import load
from engine.domain.enums import Role
from engine.errors import ConfigError, StartupError
from engine.first_run import plan
from engine.http.password_login import MAX_FAILURES
from engine.security import password_rules
from engine.security.passwords import hash_password
from engine.security.sessions import UserRecord
from tests.support.auth_world import LOGIN_PER_MINUTE, OTHER, PASSWORD, AuthWorld, Signed, auth_world
from tests.support.intruder import assert_refused
from tests.support.servers import TestServers

STRANGER = "203.0.113.9"


@pytest.fixture(scope="module")
def world(servers: TestServers) -> Iterator[AuthWorld]:
    with auth_world(servers, "security_sign_in") as running:
        yield running


def bcrypted(password: str, cost: int = 10) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def test_sec_001_weak_and_foreign_hashes_open_nothing_and_old_ones_are_made_anew(world: AuthWorld) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    for good in (bcrypted(PASSWORD), bcrypted(PASSWORD).replace("$2b$", "$2a$"), weak):
        user = world.user(password_hash=good)
        assert world.try_login(user, OTHER).status_code == 401
        assert world.login(user).works()
        (row,) = world.sql("SELECT password_hash FROM users WHERE id = $1", user.id)
        found = argon2.extract_parameters(row["password_hash"])
        assert (found.type, found.parallelism) == (argon2.Type.ID, 1)
        assert found.memory_cost >= 19456
        assert found.time_cost >= 2
        assert world.login(user).works()
    for bad in (bcrypted(PASSWORD, cost=4), PASSWORD, "$2b$12$short", "", "$1$salt$" + PASSWORD):
        assert world.try_login(world.user(password_hash=bad)).status_code == 401


def test_sec_002_length_is_judged_whole_and_bounded(world: AuthWorld) -> None:
    signed = world.login(world.user())

    def change(new: str, who: Signed = signed) -> Any:
        return who.call("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": new})

    assert_refused(change("fourteen chars"), 422)
    assert_refused(change("x y z " * 200), 422)
    assert_refused(world.try_login(signed.user, "x" * 1_000_000), 413)
    long = "the same seventy-two bytes at the beginning of both, and not one letter less: "
    assert len(long) > 72
    assert change(long + "A").status_code == 200
    assert world.try_login(signed.user, long + "B").status_code == 401
    assert world.login(signed.user, long + "A").works()
    # bcrypt itself would take both: a password beyond what it sees is not taken at all
    old = world.user(password_hash=bcrypted(long[:72]))
    assert world.try_login(old, long + "A").status_code == 401
    assert world.login(old, long[:72]).works()


def test_sec_002_a_short_password_needs_a_second_factor_for_as_long_as_it_is_short(world: AuthWorld) -> None:
    user = world.user()
    signed = world.login(user)
    seed, _ = world.enrol(signed)
    short = "plumtree 7"
    assert_refused(signed.call("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": "plum 7"}), 422)
    changed = signed.call("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": short})
    assert changed.status_code == 200, changed.text
    signed = world.login(user, short, otp=world.code(seed))
    world.clock.advance(30)
    refused = signed.call("DELETE", "/auth/mfa", {"password": short, "otp": world.code(seed)})
    assert assert_refused(refused, 409)["code"] == "PASSWORD_TOO_SHORT"


def test_sec_003_a_password_is_taken_as_it_is(world: AuthWorld) -> None:
    user = world.user(password_hash=hash_password("caf\u00e9 au lait at 1234"))
    for wrong in (
        "CAF\u00c9 AU LAIT AT 1234",
        "caf\u00e9 au lait at 123",
        " caf\u00e9 au lait at 1234",
        "cafe au lait at 1234",
    ):
        assert world.try_login(user, wrong).status_code == 401
    assert world.login(user, "cafe\u0301 au lait at 1234").works()
    assert password_rules.check("only small letters here", user.email) == []


def test_sec_004_passwords_that_everybody_tries_are_refused(world: AuthWorld) -> None:
    signed = world.login(world.user())
    assert len(password_rules.common_passwords()) >= 3000
    common = max(password_rules.common_passwords(), key=len)
    own = signed.user.email.partition("@")[0]
    guessable = (
        "zerodha12345678", "ZERODHA-12345678", common, "passwordpassword", "1qaz2wsx3edc4rfv", "reliance infosys",
        "tradingengine2026", f"{own}{own}{own}", "qwertyuiopasdfgh", "aaaaaaaaaaaaaaaaaa", "nifty-banknifty-2026",
    )  # fmt: skip
    for each in guessable:
        answer = signed.call("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": each})
        assert "newPassword" in assert_refused(answer, 422)["details"]["fields"], each
    with pytest.raises(StartupError, match="ENGINE_ADMIN_PASSWORD"):
        plan(
            paper=True,
            email="admin@localhost",
            given_password="zerodha12345678",
            vault=world.services.vault,
            clock=SystemClock(),
        )


def test_sec_006_full_queue_of_strangers_holds_up_nobody_who_is_known(
    world: AuthWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = world.user()
    signed = world.login(user, ip="198.51.100.77")
    monkeypatch.setattr(world.services.passwords._strangers, "_room", 0)
    assert assert_refused(world.try_login(user, ip="203.0.113.77"), 429)["code"] == "RATE_LIMITED"
    assert world.try_login(user, ip="198.51.100.77").status_code == 200
    assert world.try_login(user, ip="203.0.113.77", refreshToken=signed.refresh).status_code == 200
    assert signed.call("POST", "/auth/step-up", {"password": PASSWORD}, ip="203.0.113.77").status_code == 200


def test_sec_005_nobody_finds_out_who_is_registered(world: AuthWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[bool] = []
    original = world.services.passwords.verify

    async def verify(stored: str | None, password: str, **options: bool) -> bool:
        verified.append(stored is None)
        return await original(stored, password, **options)

    monkeypatch.setattr(world.services.passwords, "verify", verify)
    user, disabled, guarded = world.user(), world.user(), world.user()
    world.sql("UPDATE users SET disabled = true WHERE id = $1", disabled.id)
    world.sql("UPDATE users SET failed_logins = $2 WHERE id = $1", guarded.id, MAX_FAILURES)
    answers = []
    for who, password in ((user, OTHER), ("nobody@desk.example", PASSWORD), (disabled, PASSWORD), (guarded, PASSWORD)):
        error = assert_refused(world.try_login(who, password, ip=STRANGER), 401)
        answers.append({name: value for name, value in error.items() if name != "timestamp"})
    assert all(answer == answers[0] for answer in answers)
    # a hash is verified for everybody, of the same cost
    assert verified == [False, True, True, False]
    taken = {"email": user.email, "password": OTHER}
    free = {"email": f"{uuid4().hex}@desk.example", "password": OTHER}
    first, second = (world.call("POST", "/auth/register", body).json()["error"]["message"] for body in (taken, free))
    assert first == second


def test_sec_006_guessing_gets_slower_and_slower_from_one_address(world: AuthWorld) -> None:
    user, waits, guesses = world.user(), [], 0
    for _ in range(LOGIN_PER_MINUTE + 8):
        answer = world.try_login(user, f"guess number {guesses}", ip=STRANGER)
        if answer.status_code == 429:
            waits.append(int(answer.headers["retry-after"]))
            world.clock.advance(waits[-1])
            continue
        guesses += 1
        assert answer.status_code == 401
    assert guesses <= LOGIN_PER_MINUTE + 4
    assert waits == [12, 24, 48, 96]
    assert world.login(user, ip="198.51.100.1").works()


def test_sec_006_strangers_everywhere_lock_nobody_out(world: AuthWorld) -> None:
    admin, elsewhere = world.user(Role.ADMIN), "198.51.100.7"
    held = world.login(admin, ip=elsewhere)
    world.sql("UPDATE users SET failed_logins = $2 WHERE id = $1", admin.id, MAX_FAILURES - 1)
    for number in range(3):
        assert world.try_login(admin, OTHER, ip=f"203.0.113.{number + 20}").status_code == 401
    assert len(world.audited("LOGIN_GUARDED", admin)) == 1
    # a hundred and more failures in a row: from a strange address the password alone is not enough any more
    assert world.try_login(admin, ip="192.0.2.77").status_code == 401
    # the session that lives, and the address and the device that are known, are not held up
    assert held.call("POST", "/probe/kill").status_code == 200
    assert held.call("POST", "/auth/step-up", {"password": PASSWORD}).status_code == 200
    world.sql("UPDATE users SET failed_logins = $2 WHERE id = $1", admin.id, MAX_FAILURES)
    assert world.login(admin, ip="192.0.2.77", refreshToken=held.refresh).works()
    world.sql("UPDATE users SET failed_logins = $2 WHERE id = $1", admin.id, MAX_FAILURES)
    assert world.login(admin, ip=elsewhere).works()
    (row,) = world.sql("SELECT failed_logins FROM users WHERE id = $1", admin.id)
    assert row["failed_logins"] == 0


def test_sec_006_a_device_that_is_known_is_not_held_up_by_its_own_address(world: AuthWorld) -> None:
    admin, shared = world.user(Role.ADMIN), "203.0.113.200"
    held = world.login(admin, ip=shared)
    while world.try_login(admin, OTHER, ip=shared).status_code != 429:
        pass
    assert world.try_login(admin, ip=shared).status_code == 429
    assert world.login(admin, ip=shared, refreshToken=held.refresh).works()
    # but a device of somebody else is no help
    other = world.login(world.user(), ip=shared)
    assert world.try_login(admin, ip=shared, refreshToken=other.refresh).status_code == 429


def test_sec_006_a_code_gets_past_the_hundred_failures(world: AuthWorld) -> None:
    user = world.user(Role.ADMIN)
    seed, _ = world.enrol(world.login(user))
    world.sql("UPDATE users SET failed_logins = $2 WHERE id = $1", user.id, MAX_FAILURES)
    # whether the password is right is not said without the code
    refused = assert_refused(world.try_login(user, ip=STRANGER), 401)
    assert refused["code"] == "INVALID_CREDENTIALS"
    assert assert_refused(world.try_login(user, ip=STRANGER, otp="000000"), 401)["code"] == "INVALID_CREDENTIALS"
    assert world.login(user, ip=STRANGER, otp=world.code(seed)).works()


def test_sec_007_flood_of_logins_is_bounded_and_holds_up_nobody(world: AuthWorld) -> None:
    signed = world.login(world.user())
    with ThreadPoolExecutor(48) as pool:
        tries = [
            pool.submit(world.try_login, f"nobody{number}@desk.example", OTHER, ip=f"198.18.0.{number}")
            for number in range(48)
        ]
        assert signed.call("POST", "/probe/kill").status_code == 200
        statuses = [answer.result().status_code for answer in tries]
    assert set(statuses) <= {401, 429}
    assert 429 in statuses
    assert world.login(signed.user).works()


def test_sec_008_nobody_registers_and_nobody_chooses_a_role(world: AuthWorld, servers: TestServers) -> None:
    body = {"email": "new@desk.example", "password": PASSWORD, "name": "N"}
    assert_refused(world.call("POST", "/auth/register", body), 403)
    for name in ("role", "id", "tokenEpoch"):
        assert_refused(world.call("POST", "/auth/register", body | {name: "ADMIN"}), 403, 422)
    assert world.sql("SELECT 1 FROM users WHERE email = 'new@desk.example'") == []
    with auth_world(servers, "security_open_house", registration="open") as open_house:
        assert_refused(open_house.call("POST", "/auth/register", body | {"role": "ADMIN"}), 422)
        made = open_house.call("POST", "/auth/register", body)
        assert (made.status_code, made.json()["data"]["role"]) == (201, "TRADER")


def test_sec_009_engine_does_not_start_with_a_placeholder_for_a_key(tmp_path: Path) -> None:
    config = tmp_path / "engine.toml"
    for key in ("short", "a" * 64, "<put a random key of 32 bytes here>", "changeme-changeme-changeme-changeme"):
        config.write_text(f'[security]\njwt_secret = "{key}"\n')
        config.chmod(0o600)
        with pytest.raises(ConfigError, match=r"security\.jwt_secret"):
            load(config, {})
    command = [sys.executable, "-m", "engine", "run", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "security.jwt_secret" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_sec_010_password_change_needs_the_old_one_and_ends_every_session(world: AuthWorld) -> None:
    user = world.user()
    stolen, other = world.login(user), world.login(user)
    guess = stolen.call("POST", "/auth/password", {"currentPassword": OTHER, "newPassword": "a password of the thief"})
    assert assert_refused(guess, 403)["code"] == "INVALID_CREDENTIALS"
    assert world.audited("PASSWORD_CHANGE_FAILED", user)
    done = other.call("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": OTHER})
    assert done.status_code == 200
    for session in (stolen, other):
        assert not session.works()
        assert_refused(world.refresh(session.refresh), 401)
    assert world.try_login(user).status_code == 401
    assert world.login(user, OTHER).works()


def test_sec_010_guessing_the_password_with_a_stolen_token_is_slowed_down(world: AuthWorld) -> None:
    stolen = world.login(world.user())
    body = {"currentPassword": OTHER, "newPassword": "a password of the thief"}
    statuses = [stolen.call("POST", "/auth/password", body).status_code for _ in range(LOGIN_PER_MINUTE + 1)]
    statuses.append(stolen.call("POST", "/auth/step-up", {"password": OTHER}).status_code)
    assert statuses == [403] * LOGIN_PER_MINUTE + [429, 429]


def test_sec_011_a_code_signs_in_once_and_within_its_time_only(world: AuthWorld) -> None:
    user = world.user(Role.ADMIN)
    seed, _ = world.enrol(world.login(user))
    assert assert_refused(world.try_login(user), 401)["code"] == "OTP_REQUIRED"
    assert assert_refused(world.try_login(user, OTHER, otp=world.code(seed)), 401)["code"] == "INVALID_CREDENTIALS"
    code = world.code(seed)
    assert world.login(user, otp=code).works()
    assert assert_refused(world.try_login(user, otp=code), 401)["code"] == "INVALID_OTP"
    for steps in (-1, -2, 2):
        # the step before is older than the code that was used; two away was never valid
        assert world.try_login(user, otp=world.code(seed, steps=steps), ip="198.51.100.44").status_code == 401
    later = world.code(seed, steps=1)
    with ThreadPoolExecutor(6) as pool:
        # from one known device: the tries of one address in a row are bounded by another rule
        answers = list(
            pool.map(lambda n: world.try_login(user, otp=later, ip=f"198.51.100.{100 + n}").status_code, range(6))
        )
    assert sorted(answers) == [200] + [401] * 5


def test_sec_011_guessing_codes_comes_to_an_end(world: AuthWorld) -> None:
    user = world.user(Role.ADMIN)
    seed, recovery = world.enrol(world.login(user, ip="198.51.100.60"))
    guessed = 0
    while world.try_login(user, otp="000000", ip=STRANGER).status_code == 401:
        guessed += 1
    assert guessed <= LOGIN_PER_MINUTE
    world.sql("UPDATE user_factors SET failures = 100 WHERE user_id = $1", user.id)
    # guesses from a hundred addresses: the app's codes are not believed from strange ones any more
    assert world.try_login(user, otp=world.code(seed), ip="192.0.2.8").status_code == 401
    assert world.login(user, otp=recovery[0], ip="192.0.2.9").works()
    world.sql("UPDATE user_factors SET failures = 100 WHERE user_id = $1", user.id)
    assert world.login(user, otp=world.code(seed), ip="198.51.100.60").works()


def test_sec_011_the_seed_and_the_recovery_codes_are_not_in_the_store(world: AuthWorld) -> None:
    user = world.user()
    seed, recovery = world.enrol(world.login(user))
    (factor,) = world.sql("SELECT * FROM user_factors WHERE user_id = $1", user.id)
    dump = (
        f"{dict(factor)} {factor['seed'].hex()} {world.sql('SELECT * FROM recovery_codes WHERE user_id = $1', user.id)}"
    )
    for hidden in (seed, seed.encode().hex(), *recovery, *(code.replace("-", "") for code in recovery)):
        assert hidden not in dump
    # sealed for its own row: moved to another user's it opens nothing
    thief = world.user()
    stolen_seed, _ = world.enrol(world.login(thief))
    world.sql("UPDATE user_factors SET seed = $2 WHERE user_id = $1", user.id, world.sql(
        "SELECT seed FROM user_factors WHERE user_id = $1", thief.id
    )[0]["seed"])  # fmt: skip
    assert world.try_login(user, otp=world.code(stolen_seed)).status_code >= 401


def test_sec_012_an_old_session_makes_no_dangerous_change_until_it_proves_itself(world: AuthWorld) -> None:
    user = world.user(Role.ADMIN)
    signed = world.login(user)
    assert signed.call("POST", "/probe/fresh").status_code == 200
    world.clock.advance(299)
    assert signed.call("POST", "/probe/fresh").status_code == 200
    world.clock.advance(301)
    for old in (signed, world.refreshed(signed)):
        assert old.call("POST", "/probe/read").status_code == 200
        for path in ("/probe/fresh", "/auth/mfa/enroll", "/auth/tokens"):
            # before the body is read
            assert assert_refused(old.call("POST", path, {}), 403)["code"] == "STEP_UP_REQUIRED"
    assert_refused(old.call("POST", "/auth/step-up", {"password": OTHER}), 403)
    fresh = old.call("POST", "/auth/step-up", {"password": PASSWORD})
    assert fresh.status_code == 200
    assert Signed(world, user, fresh.json()["data"]).call("POST", "/probe/fresh").status_code == 200
    # what was not made fresh stays old, and the session's next tokens are as fresh as the proof
    assert_refused(old.call("POST", "/probe/fresh"), 403)
    assert world.refreshed(old).call("POST", "/probe/fresh").status_code == 200
    world.clock.advance(301)
    assert_refused(Signed(world, user, fresh.json()["data"]).call("POST", "/probe/fresh"), 403)


def test_sec_012_step_up_of_a_user_with_a_factor_needs_its_code(world: AuthWorld) -> None:
    user = world.user()
    signed = world.login(user)
    seed, recovery = world.enrol(signed)
    for body, code in (
        ({"password": PASSWORD}, "OTP_REQUIRED"),
        ({"password": PASSWORD, "otp": "000000"}, "INVALID_OTP"),
        ({"password": OTHER, "otp": world.code(seed)}, "INVALID_CREDENTIALS"),
    ):
        assert assert_refused(signed.call("POST", "/auth/step-up", body), 403)["code"] == code
    assert signed.call("POST", "/auth/step-up", {"password": PASSWORD, "otp": world.code(seed)}).status_code == 200
    assert_refused(signed.call("POST", "/auth/step-up", {"password": PASSWORD, "otp": world.code(seed)}), 403)
    assert signed.call("POST", "/auth/step-up", {"password": PASSWORD, "otp": recovery[1]}).status_code == 200
    world.clock.advance(30)
    assert_refused(signed.call("DELETE", "/auth/mfa", {"password": OTHER, "otp": world.code(seed)}), 403)
    gone = signed.call("DELETE", "/auth/mfa", {"password": PASSWORD, "otp": world.code(seed)})
    assert gone.status_code == 200, gone.text
    assert world.login(user).works()


def test_sec_021_tokens_are_dead_after_signing_out_everywhere_or_being_disabled(world: AuthWorld) -> None:
    user = world.user()
    one, two = world.login(user), world.login(user)
    assert one.call("POST", "/auth/logout-all").status_code == 200
    for session in (one, two):
        assert not session.works()
        assert_refused(world.refresh(session.refresh), 401)
    three = world.login(user)
    world.sql("UPDATE users SET disabled = true WHERE id = $1", user.id)
    world.reload()
    assert not three.works()
    assert_refused(world.refresh(three.refresh), 401)


def test_sec_024_a_dump_of_the_store_is_no_set_of_tokens(world: AuthWorld) -> None:
    signed = world.login(world.user())
    made = signed.call("POST", "/auth/tokens", {"name": "bot", "scopes": ["READ"]}).json()["data"]["token"]
    dump = [*world.sql("SELECT token_hash FROM refresh_tokens"), *world.sql("SELECT token_hash FROM api_tokens")]
    assert len(signed.refresh) == 43
    for row in dump:
        for text in (row["token_hash"].hex(), f"eng_{row['token_hash'].hex()[:43]}"):
            assert_refused(world.refresh(text), 401)
            assert_refused(world.call("GET", "/auth/me", token=text), 401)
    assert made not in str(dump)
    assert signed.refresh not in str(dump)


@pytest.mark.parametrize("thief_first", [True, False])
def test_sec_025_reuse_of_a_spent_token_ends_the_session_for_both(world: AuthWorld, thief_first: bool) -> None:
    victim = world.login(world.user())
    first = world.refreshed(victim)
    world.clock.advance(11)
    if thief_first:
        # the thief goes on with the child; the victim comes with the parent
        first = world.refreshed(first)
        world.clock.advance(11)
    assert_refused(world.refresh(victim.refresh), 401)
    assert_refused(world.refresh(first.refresh), 401)
    assert not victim.works()
    assert not first.works()
    assert len(world.audited("REFRESH_REUSED", victim.user)) == 1
    # a family in strange hands shows no known device either
    world.sql("UPDATE users SET failed_logins = 100 WHERE id = $1", victim.user.id)
    assert world.try_login(victim.user, ip="192.0.2.31", refreshToken=victim.refresh).status_code == 401


def test_sec_026_fifty_refreshes_at_once_make_exactly_one_child(world: AuthWorld) -> None:
    signed = world.login(world.user())
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(world.refresh, [signed.refresh] * 50))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["data"]["refreshToken"] for answer in answers}) == 1
    assert len(world.sql("SELECT 1 FROM refresh_tokens WHERE user_id = $1", signed.user.id)) == 2


def test_sec_027_a_session_ends_when_it_lies_idle_and_when_it_is_old(world: AuthWorld) -> None:
    idle = world.login(world.user())
    world.clock.advance(12 * 3600 + 1)
    assert_refused(world.refresh(idle.refresh), 401)
    assert idle.user.id not in {
        row["user_id"] for row in world.sql("SELECT user_id FROM refresh_tokens WHERE spent_at IS NOT NULL")
    }
    sliding = world.login(world.user())
    for _ in range(2 * 14 - 1):
        world.clock.advance(12 * 3600)
        sliding = world.refreshed(sliding)
    world.clock.advance(12 * 3600)
    assert_refused(world.refresh(sliding.refresh), 401)


def test_sec_028_sessions_are_listed_and_ended_by_their_owner_or_an_admin_only(world: AuthWorld) -> None:
    user, stranger, admin = world.user(), world.login(world.user()), world.login(world.user(Role.ADMIN))
    here = world.login(user, ip="198.51.100.80")
    there = world.login(user, ip="198.51.100.81")
    listed = here.call("GET", "/auth/sessions").json()["data"]
    assert [(each["ip"], each["current"]) for each in listed] == [("198.51.100.81", False), ("198.51.100.80", True)]
    assert listed[0]["device"].startswith("python-httpx/")
    path = f"/auth/sessions/{listed[0]['id']}"
    assert_refused(stranger.call("DELETE", path), 404)
    assert_refused(stranger.call("GET", f"/users/{user.id}/sessions"), 403)
    assert there.works()
    assert here.call("DELETE", path).status_code == 200
    assert not there.works()
    assert_refused(world.refresh(there.refresh), 401)
    assert_refused(here.call("DELETE", path), 404)
    assert here.works()
    (left,) = admin.call("GET", f"/users/{user.id}/sessions").json()["data"]
    assert admin.call("DELETE", f"/auth/sessions/{left['id']}").status_code == 200
    assert not here.works()
    last = world.login(user)
    assert admin.call("DELETE", f"/users/{user.id}/sessions").status_code == 200
    assert not last.works()


def test_sec_028_refresh_after_logout_is_refused(world: AuthWorld) -> None:
    signed = world.login(world.user())
    child = world.refreshed(signed)
    assert world.call("POST", "/auth/logout", {"refreshToken": child.refresh}).status_code == 200
    for token in (signed.refresh, child.refresh):
        assert_refused(world.refresh(token), 401)
    assert not child.works()


def test_sec_029_no_cookie_signs_anybody_in_and_no_other_origin_is_let_in(world: AuthWorld) -> None:
    signed = world.login(world.user(Role.ADMIN))
    answer = world.try_login(signed.user)
    assert "set-cookie" not in answer.headers
    for name in ("access_token", "session", "__Host-session", "Authorization"):
        cookie = {"Cookie": f"{name}={signed.access}"}
        assert world.call("POST", "/probe/kill", **cookie).status_code == 401
        across = cookie | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        refused = signed.call("POST", "/probe/kill", **across)
        assert assert_refused(refused, 403)["code"] == "CROSS_ORIGIN"
        assert not [header for header in refused.headers if header.lower().startswith("access-control-")]
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    asked = world.call("OPTIONS", "/auth/login", **preflight)
    assert asked.status_code == 405
    assert not [header for header in asked.headers if header.lower().startswith("access-control-allow")]


def test_sec_109_no_session_begins_while_the_clock_is_suspect_and_those_that_live_go_on(
    world: AuthWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = world.user(Role.ADMIN)
    signed = world.login(user)
    monkeypatch.setattr(world.services, "suspicion", "the wall clock was set by +3600.0 s")
    refused = world.try_login(user)
    assert assert_refused(refused, 503)["code"] == "CLOCK_SUSPECT"
    assert int(refused.headers["retry-after"]) > 0
    assert_refused(world.call("POST", "/auth/register", {"email": "x@y.example", "password": PASSWORD}), 503, 403)
    assert signed.call("POST", "/probe/kill").status_code == 200
    assert world.refreshed(signed).call("POST", "/probe/kill").status_code == 200


def test_required_factor_leaves_nothing_but_enrolling_it_and_the_kill_switch(servers: TestServers) -> None:
    with auth_world(servers, "security_mfa_required", require_mfa="admin") as strict:
        admin, trader = strict.login(strict.user(Role.ADMIN)), strict.login(strict.user())
        assert trader.call("POST", "/probe/trade").status_code == 200
        for path in ("/probe/read", "/probe/trade", "/probe/admin"):
            assert assert_refused(admin.call("POST", path), 403)["code"] == "MFA_REQUIRED"
        assert admin.call("POST", "/probe/kill").status_code == 200
        seed, _ = strict.enrol(admin)
        assert admin.call("POST", "/probe/admin").status_code == 200
        refused = admin.call("DELETE", "/auth/mfa", {"password": PASSWORD, "otp": strict.code(seed)})
        assert assert_refused(refused, 403)["code"] == "MFA_REQUIRED"


def test_enrolment_counts_only_once_its_first_code_came(world: AuthWorld) -> None:
    user: UserRecord = world.user()
    signed = world.login(user)
    assert_refused(signed.call("POST", "/auth/mfa/confirm", {"otp": "123456"}), 409)
    begun = signed.call("POST", "/auth/mfa/enroll").json()["data"]
    assert begun["otpauthUri"].startswith("otpauth://totp/")
    assert begun["secret"] in begun["otpauthUri"]
    assert begun["qrCode"].startswith("data:image/svg+xml")
    assert world.login(user).works()
    again = signed.call("POST", "/auth/mfa/enroll").json()["data"]
    old = signed.call("POST", "/auth/mfa/confirm", {"otp": world.code(begun["secret"])})
    assert assert_refused(old, 403)["code"] == "INVALID_OTP"
    done = signed.call("POST", "/auth/mfa/confirm", {"otp": world.code(again["secret"])})
    codes = done.json()["data"]["recoveryCodes"]
    assert len(set(codes)) == 10
    assert assert_refused(signed.call("POST", "/auth/mfa/enroll"), 409)["code"] == "MFA_ENROLLED"
    assert assert_refused(world.try_login(user), 401)["code"] == "OTP_REQUIRED"
    assert world.login(user, otp=codes[3].upper().replace("-", " ")).works()
    assert world.audited("RECOVERY_CODE_USED", user)[0].content["left"] == 9
    assert world.try_login(user, otp=codes[3]).status_code == 401

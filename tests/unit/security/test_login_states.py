"""States of logins: random, short-lived, good once."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from engine.security.login_states import TTL, LoginStates

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
ACCOUNT, USER = uuid4(), uuid4()


def issue(states: LoginStates, account=ACCOUNT, now: datetime = NOW) -> str:
    return states.issue(account_id=account, user_id=USER, via="api", now=now)[0]


def test_state_opens_once_and_says_for_whom() -> None:
    states = LoginStates()
    state = issue(states)
    found = states.take(state, now=NOW)
    assert found is not None
    assert (found.account_id, found.user_id, found.via) == (ACCOUNT, USER, "api")
    assert states.take(state, now=NOW) is None


def test_state_lives_ten_minutes() -> None:
    states = LoginStates()
    early, late = issue(states), issue(states)
    assert states.take(early, now=NOW + TTL - timedelta(seconds=1)) is not None
    assert states.take(late, now=NOW + TTL) is None
    assert len(states) == 0


def test_what_was_never_issued_opens_nothing_and_spends_nothing() -> None:
    states = LoginStates()
    state = issue(states)
    for forged in ("", state[:-1], state + "x", state.swapcase(), "\udcff", "x" * 100_000):
        assert states.take(forged, now=NOW) is None
    assert states.take(state, now=NOW) is not None


def test_state_itself_is_not_kept() -> None:
    states = LoginStates()
    state = issue(states)
    assert len(state) >= 43
    assert state not in repr(vars(states))


def test_asking_again_and_again_neither_grows_without_end_nor_ends_the_links_of_others() -> None:
    states = LoginStates()
    others = issue(states, uuid4())
    mine = [issue(states) for _ in range(50)]
    assert len(states) <= 21
    assert states.take(mine[0], now=NOW) is None
    assert states.take(mine[-1], now=NOW) is not None
    assert states.take(others, now=NOW) is not None


def test_links_of_an_account_end_with_its_keys() -> None:
    states = LoginStates()
    mine, others = issue(states), issue(states, uuid4())
    states.forget(ACCOUNT)
    assert states.take(mine, now=NOW) is None
    assert states.take(others, now=NOW) is not None

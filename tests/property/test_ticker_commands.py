"""Whatever a ticker client says, the connection stands and its subscriptions stay within the bound."""

import json
from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.exchange.instruments import build_master
from engine.exchange.state import Account
from engine.exchange.ticker import MOST_TEXTS, MOST_TOKENS, Connection

MASTER = build_master(date(2026, 11, 23))
TOKENS = list(MASTER.by_token)
ACCOUNT = Account(user_id="A", api_key="k", api_secret="s", capital=Decimal(1), redirect_url="http://127.0.0.1/")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(TOKENS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
modes = st.sampled_from(["ltp", "quote", "full", "loud"])
commands = st.one_of(
    st.fixed_dictionaries({"a": st.sampled_from(["subscribe", "unsubscribe", "mode", "x"]), "v": json_values}),
    st.fixed_dictionaries({"a": st.just("mode"), "v": st.tuples(modes, st.lists(st.sampled_from(TOKENS)))}),
    st.fixed_dictionaries({"a": st.just("subscribe"), "v": st.lists(st.sampled_from(TOKENS) | json_values)}),
    json_values,
)


@given(said=st.lists(st.one_of(commands.map(json.dumps), st.text(max_size=20), st.binary(max_size=20)), max_size=15))
def test_any_message_is_taken_or_answered_with_an_error(said: list[str | bytes]) -> None:
    connection = Connection(ACCOUNT, "t")
    for message in said:
        before = len(connection.texts)
        connection.take(message, MASTER)
        for text in list(connection.texts)[before:]:
            assert json.loads(text)["type"] == "error"
        assert connection.modes.keys() <= MASTER.by_token.keys()
        assert set(connection.modes.values()) <= {"ltp", "quote", "full"}
        assert connection.due.keys() <= connection.modes.keys()
    assert connection.closing is None


@given(sizes=st.lists(st.integers(0, 3500), min_size=1, max_size=4), start=st.integers(0, 1000))
def test_subscriptions_never_pass_the_bound_and_a_refused_one_changes_nothing(sizes: list[int], start: int) -> None:
    connection = Connection(ACCOUNT, "t")
    for number, size in enumerate(sizes):
        before = dict(connection.modes)
        at = start + number * 400
        wanted = TOKENS[at : at + size]
        connection.take(json.dumps({"a": "mode", "v": ["ltp", wanted]}), MASTER)
        if len(before.keys() | set(wanted)) > MOST_TOKENS:
            assert connection.modes == before
            assert str(MOST_TOKENS) in connection.texts[-1]
        else:
            assert connection.modes == {**before, **dict.fromkeys(wanted, "ltp")}


def test_client_that_reads_no_updates_is_closed_and_its_queue_stays_bounded() -> None:
    connection = Connection(ACCOUNT, "t")
    for _ in range(MOST_TEXTS * 2):
        connection.tell("{}")
    assert len(connection.texts) == MOST_TEXTS
    assert connection.closing is not None
    assert connection.closing[0] == 1013

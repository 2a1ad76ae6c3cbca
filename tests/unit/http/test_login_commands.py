"""Which account ``engine login`` means, and what it takes for a request token."""

from types import SimpleNamespace
from uuid import UUID

import pytest

from engine.errors import EngineError
from engine.http.login_commands import find_account, token_of
from engine.http.telegram_commands import command_in


def services(*labels: str) -> SimpleNamespace:
    accounts = {
        UUID(int=number): SimpleNamespace(id=UUID(int=number), label=label, broker="kite")
        for number, label in enumerate(labels, 1)
    }
    paper = UUID(int=99)
    accounts[paper] = SimpleNamespace(id=paper, label="paper", broker="paper")
    return SimpleNamespace(directory=SimpleNamespace(accounts=accounts))


def test_account_is_found_by_label_by_id_and_without_either_when_there_is_one() -> None:
    assert find_account(services("a", "b"), "b").label == "b"
    assert find_account(services("a", "b"), str(UUID(int=1))).label == "a"
    assert find_account(services("a"), "").label == "a"


@pytest.mark.parametrize(
    ("labels", "wanted"), [(("a", "b"), ""), (("a", "b"), "c"), (("a", "a"), "a"), (("a",), "paper"), ((), "")]
)
def test_account_that_is_not_meant_for_sure_is_refused_and_those_there_are_named(labels, wanted) -> None:
    with pytest.raises(EngineError) as caught:
        find_account(services(*labels), wanted)
    assert all(label in str(caught.value) for label in labels)


@pytest.mark.parametrize(
    "given",
    ["tok3n", " tok3n\n", "https://x/cb?request_token=tok3n&state=s", "http://127.0.0.1/?a=b&request_token=tok3n"],
)
def test_request_token_is_taken_alone_or_out_of_the_address(given) -> None:
    assert token_of(given) == "tok3n"


@pytest.mark.parametrize(
    "given", ["", " ", "a b", "https://x/cb?request_token=", "https://x/cb?status=cancelled", "\u0661", "x" * 201]
)
def test_what_is_no_request_token_is_refused_without_being_quoted(given) -> None:
    with pytest.raises(EngineError) as caught:
        token_of(given)
    assert not given.strip() or given.strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/login", "/login"),
        (" /LOGIN@MyBot ", "/login"),
        ("/status", "/status"),
        ("/login now", None),
        ("login", None),
        ("BUY INFY", None),
        ("", None),
    ],
)
def test_command_is_the_whole_message(text, command) -> None:
    assert command_in(text) == command

"""Capital and accounts by owner: kept, and right after every change."""

from decimal import Decimal
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.directory import Account, Directory, Strategy, Target
from engine.domain.enums import SizingMode

USERS = [UUID(int=number) for number in (1, 2)]
ACCOUNTS = [UUID(int=number) for number in range(10, 14)]
STRATEGY = UUID(int=99)


def account(place: int, user: int, capital: int) -> Account:
    blank = {field.name: None for field in msgspec.structs.fields(Account) if field.required}
    given = {"id": ACCOUNTS[place], "user_id": USERS[user], "label": str(place), "capital": Decimal(capital)}
    return Account(**{**blank, **given})


def strategy(places: set[int]) -> Strategy:
    blank = {field.name: None for field in msgspec.structs.fields(Strategy) if field.required}
    targets = tuple(
        Target(account_id=ACCOUNTS[place], mode=SizingMode.MULTIPLIER, value=Decimal(1)) for place in places
    )
    return Strategy(**{**blank, "id": STRATEGY, "user_id": USERS[0], "targets": targets})


changes = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 3), st.integers(0, 1), st.integers(0, 1000)),
    st.tuples(st.just("remove"), st.integers(0, 3), st.just(0), st.just(0)),
)


@given(st.lists(changes, max_size=20), st.sets(st.integers(0, 3)))
def test_capital_is_that_of_the_accounts_there_are(made: list[tuple[str, int, int, int]], places: set[int]) -> None:
    directory = Directory()
    directory.put_strategy(strategy(places))
    for what, place, user, capital in made:
        if what == "put":
            directory.put_account(account(place, user, capital))
        else:
            directory.remove(ACCOUNTS[place])
        for owner in USERS:
            owned = [held for held in directory.accounts.values() if held.user_id == owner]
            assert sorted(held.id for held in directory.accounts_of(owner)) == sorted(held.id for held in owned)
            assert directory.capital_of(owner) == sum((held.capital for held in owned), Decimal(0))
        traded = [ACCOUNTS[place] for place in places if ACCOUNTS[place] in directory.accounts]
        if STRATEGY in directory.strategies:
            wanted = sum((directory.accounts[each].capital for each in traded), Decimal(0))
            assert directory.capital_under(STRATEGY) == wanted

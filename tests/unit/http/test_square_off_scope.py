"""Whose positions a square-off closes: never another's unless an ADMIN names them."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from engine.errors import NotFoundError
from engine.http.routes.square_off import SquareOffBody, _executors

ME, OTHER = UUID(int=1), UUID(int=2)
MINE, THEIRS, THEIR_STRATEGY = UUID(int=11), UUID(int=12), UUID(int=22)


def chosen(body: SquareOffBody, *, is_admin: bool) -> list[UUID]:
    accounts = {each: SimpleNamespace(id=each, user_id=user) for each, user in ((MINE, ME), (THEIRS, OTHER))}
    directory = SimpleNamespace(accounts=accounts, strategies={THEIR_STRATEGY: SimpleNamespace(user_id=OTHER)})
    executors = {each: SimpleNamespace(account_id=each) for each in accounts}
    services: Any = SimpleNamespace(
        directory=directory, crew=SimpleNamespace(executors=executors, executor=executors.__getitem__)
    )
    request: Any = SimpleNamespace(
        user=SimpleNamespace(user_id=ME, is_admin=is_admin, granted_users=(), granted_accounts=())
    )
    return [executor.account_id for executor in _executors(services, request, body)]


@pytest.mark.parametrize("is_admin", [False, True])
def test_without_a_name_it_is_the_callers_own(is_admin: bool) -> None:
    assert chosen(SquareOffBody(), is_admin=is_admin) == [MINE]
    assert chosen(SquareOffBody(symbol="INFY"), is_admin=is_admin) == [MINE]


@pytest.mark.parametrize("body", [SquareOffBody(account_id=THEIRS), SquareOffBody(strategy_id=THEIR_STRATEGY)])
def test_anothers_are_closed_by_an_admin_that_names_them(body: SquareOffBody) -> None:
    assert chosen(body, is_admin=True) == [THEIRS]
    with pytest.raises(NotFoundError):
        chosen(body, is_admin=False)

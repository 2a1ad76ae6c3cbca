"""The collector leaves room for a signal to all accounts, however early or late they are known."""

import gc

import pytest

from engine.runtime import garbage


@pytest.fixture(autouse=True)
def _as_before():
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    held = (garbage._is_settled, garbage._accounts)
    yield
    garbage._is_settled, garbage._accounts = held
    gc.callbacks[:] = callbacks
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_room_is_made_for_accounts_that_were_known_before_the_start_ended():
    garbage._is_settled = False
    before = gc.get_threshold()
    garbage.make_room(1000)
    assert gc.get_threshold() == before
    garbage.settle()
    assert gc.get_threshold()[0] > 100_000


def test_room_is_made_at_once_for_accounts_that_come_later():
    garbage.make_room(0)
    garbage.settle()
    few = gc.get_threshold()[0]
    garbage.make_room(1000)
    assert gc.get_threshold()[0] > few
    garbage.make_room(0)
    assert gc.get_threshold()[0] == few

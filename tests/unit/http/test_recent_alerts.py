"""Which alerts without a time of their own are one: sent again by TradingView, or of the next bar."""

from uuid import uuid4

from engine.http.routes.tradingview import REPEAT_S, RecentAlerts

SOURCE = uuid4()
AT = 1_795_000_019


def never(_second: int) -> bool:
    return False


def test_alert_that_is_tried_again_is_the_first_across_the_turn_of_a_minute():
    alerts = RecentAlerts()
    assert {alerts.first_at(SOURCE, b"a", AT + late, never) for late in (0, 8, 16, 24)} == {AT}


def test_alert_of_the_next_bar_is_another_though_it_came_a_little_early():
    alerts = RecentAlerts()
    assert alerts.first_at(SOURCE, b"a", AT, never) != alerts.first_at(SOURCE, b"a", AT + 57, never)


def test_alert_that_an_earlier_life_took_in_is_known_for_as_long():
    known = {AT}
    for late in (8, 24, REPEAT_S - 1):
        assert RecentAlerts().first_at(SOURCE, b"a", AT + late, known.__contains__) == AT
    assert RecentAlerts().first_at(SOURCE, b"a", AT + REPEAT_S, known.__contains__) == AT + REPEAT_S

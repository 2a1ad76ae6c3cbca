"""Events as the stream shows them: the REST API's own views, one JSON line each (server-sent events, WHATWG HTML)."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from engine.actors.live_figures import DayFigure
from engine.domain.order import Order
from engine.domain.stream_event import Alert, StreamEvent, StreamType
from engine.http.endpoint import ApiStruct
from engine.http.errors import encode
from engine.http.permissions import Principal
from engine.http.views.ownership import may_reach
from engine.http.views.trading import intent_view, order_view, position_view, trade_view
from engine.store.queries.holdings import HeldPosition, Trade
from engine.store.queries.intents import IntentStory
from engine.store.queries.orders import OrderStory

RETRY_MS = 2000


class AlertView(ApiStruct, frozen=True, kw_only=True):
    """What a person must look at; ``code`` is the word that the text begins with, ``subject`` what it is about.

    Of the ids those are set that are known of the subject.
    """

    at: datetime
    code: str
    subject: str
    text: str
    user_id: UUID | None
    account_id: UUID | None
    order_id: UUID | None
    intent_id: UUID | None
    strategy_id: UUID | None


class HelloView(ApiStruct, frozen=True, kw_only=True):
    """How a stream begins: ``resumed`` says that nothing is missing since the Last-Event-ID that was sent."""

    at: datetime
    epoch: int
    resumed: bool
    types: tuple[StreamType, ...]
    account_id: UUID | None


class ResetView(ApiStruct, frozen=True, kw_only=True):
    """What was known is out of date, or the stream ends: load the state anew, by the REST API.

    ``reason`` is NEW_ENGINE, TOO_OLD or UNKNOWN_ID for a Last-Event-ID that cannot be gone on from, TOO_SLOW for a
    reader that fell behind, SESSION_ENDED for one that may not read any more, TOO_MANY_STREAMS. After the last three
    the stream ends.
    """

    reason: str


def may_hear(caller: Principal, event: StreamEvent) -> bool:
    """Whether *caller* may know of *event*: what is nobody's is for an ADMIN."""
    if event.is_public or caller.is_admin:
        return True
    return event.owner is not None and may_reach(caller, event.owner, event.account_id)


class EventViews:
    """Makes events into the text of the stream.

    *kill_view* shows a kill switch to one caller, *pnl_view* the figures of a day, *instrument* finds one.
    """

    def __init__(
        self,
        *,
        kill_view: Callable[[Any, Principal], Any],
        pnl_view: Callable[[DayFigure], Any],
        instrument: Callable[[Any, str], Any],
    ) -> None:
        self._kill_view = kill_view
        self._shown: Mapping[StreamType, Callable[[StreamEvent], Any]] = {
            StreamType.INTENT: _intent,
            StreamType.ORDER: lambda event: _order(event, instrument(event.about.exchange, event.about.symbol)),
            StreamType.FILL: _fill,
            StreamType.POSITION: _position,
            StreamType.PNL: lambda event: pnl_view(event.about),
            StreamType.ALERT: _alert,
        }

    def text(self, event_id: str, event: StreamEvent, caller: Principal) -> bytes:
        """Return *event* as *caller* sees it; what is the same for everybody is made once."""
        if event.kind is StreamType.KILLSWITCH:
            # what of it is not flat is told to each as far as it is theirs
            return _frame(event_id, event.kind, encode(self._kill_view(event.about, caller)))
        if event.shown is None:
            event.shown = _frame(event_id, event.kind, encode(self._shown[event.kind](event)))
        return event.shown


def hello(event_id: str, view: HelloView) -> bytes:
    """Return the first words of a stream; *event_id* is the place that it goes on from."""
    return f"retry: {RETRY_MS}\n".encode() + _frame(event_id, "hello", encode(view))


def reset(event_id: str, reason: str) -> bytes:
    """Return the word that the state must be loaded anew."""
    return _frame(event_id, "reset", encode(ResetView(reason=reason)))


def heartbeat(event_id: str) -> bytes:
    """Return what shows that the stream lives; a block without data only moves the reader's last event id."""
    return f": heartbeat\nid: {event_id}\n\n".encode()


def _frame(event_id: str, name: str, data: bytes) -> bytes:
    # JSON holds no line break of its own, so one data line is enough
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), name.encode(), data)


def _intent(event: StreamEvent) -> Any:
    (timeline,) = event.parts
    return intent_view(IntentStory(intent=event.about, timeline=timeline))


def _order(event: StreamEvent, instrument: Any) -> Any:
    events, fills = event.parts
    return order_view(OrderStory(order=event.about, events=events, fills=fills), instrument)


def _fill(event: StreamEvent) -> Any:
    order: Order | None = event.parts[0]
    return trade_view(
        Trade(
            fill=event.about,
            intent_id=None if order is None else order.intent_id,
            strategy_id=None if order is None else order.strategy_id,
        )
    )


def _position(event: StreamEvent) -> Any:
    at, price = event.parts
    return position_view(HeldPosition(position=event.about, updated_at=at), price)


def _alert(event: StreamEvent) -> Any:
    alert: Alert = event.about
    return AlertView(
        at=alert.at,
        code=alert.code,
        subject=alert.subject,
        text=alert.text,
        user_id=alert.user_id,
        account_id=alert.account_id,
        order_id=alert.order_id,
        intent_id=alert.intent_id,
        strategy_id=alert.strategy_id,
    )

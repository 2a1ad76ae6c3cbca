"""/instruments: the instrument master, searchable, and the freeze quantities that slicing goes by."""

from datetime import date
from typing import Annotated, Any, Literal, cast

import msgspec
import trio

from engine.actors.freeze_keeper import FreezeKeeper
from engine.clock import trading_day
from engine.domain.enums import Exchange
from engine.domain.freeze import FreezeFault, FreezeQuantity, checked, freeze_list, freeze_row
from engine.domain.instrument_index import Found, Place
from engine.errors import NotFoundError, RateLimitError, UnavailableError, UnsupportedMediaTypeError, ValidationError
from engine.http.endpoint import ApiBody, ApiRequest, Page, endpoint
from engine.http.json_body import decode_body
from engine.http.paging import DEFAULT_LIMIT, PageWindow, clamp_limit, decode_cursor
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.instruments import FreezeView, InstrumentView, freeze_view, instrument_view

_TAGS = ("instruments",)

# A scan holds the interpreter's lock: several at a time would hold up orders for as long as they take together.
_one_at_a_time = trio.CapacityLimiter(1)
_MOST_WAITING = 20

Kind = Literal["EQ", "FUT", "CE", "PE", "INDEX"]


class InstrumentQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Every word of ``query`` must occur in symbol, name or type; ``expiry`` is a date."""

    query: Annotated[str, msgspec.Meta(max_length=100)] = ""
    exchange: Exchange | None = None
    type: Kind | None = None
    expiry: date | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None

    def window(self) -> PageWindow:
        """Return the checked window. Raises ValidationError for the cursor."""
        cursor = None if self.cursor is None else decode_cursor(self.cursor)
        return PageWindow(limit=clamp_limit(self.limit), cursor=cursor)


class FreezeBody(ApiBody, frozen=True, kw_only=True):
    """``symbol`` or ``underlying`` names a share, a contract or all contracts on an underlying (``NIFTY``)."""

    exchange: Exchange
    quantity: Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]
    symbol: str | None = None
    underlying: str | None = None


@endpoint(
    "GET",
    "/instruments",
    permission=Permission.READ,
    summary="Search instruments",
    query=InstrumentQuery,
    list_of=InstrumentView,
    errors=(RateLimitError, UnavailableError),
    tags=_TAGS,
)
async def search_instruments(request: ApiRequest) -> Page[InstrumentView]:
    """The symbol itself first, then symbols that begin with the query, names with such a word, all others."""
    services: Services = request.services
    query: InstrumentQuery = request.query
    window = query.window()
    after = _place(window)
    _check_loaded(services)
    index = services.master.index
    if _one_at_a_time.statistics().tasks_waiting >= _MOST_WAITING:
        raise RateLimitError("too many searches at once; try again", retry_after_s=1)
    # a scan of 100,000 rows would hold up everything else on the loop
    found = await trio.to_thread.run_sync(
        lambda: index.find(
            query.query,
            exchange=query.exchange,
            kind=query.type,
            expiry=query.expiry,
            limit=window.limit + 1,
            after=after,
        ),
        limiter=_one_at_a_time,
    )
    return Page.cut(found, window, key=lambda row: row.place).map(lambda row: _view(services, row))


@endpoint(
    "GET",
    "/instruments/freeze",
    permission=Permission.READ,
    summary="Show freeze quantities",
    response=list[FreezeView],
    tags=_TAGS,
)
async def show_freeze(request: ApiRequest) -> list[FreezeView]:
    """The largest single orders known; an instrument that is in none of them is sent in one piece."""
    return _freeze_views(_keeper(request))


@endpoint(
    "PUT",
    "/instruments/freeze",
    permission=Permission.ADMIN,
    summary="Set freeze quantities",
    response=list[FreezeView],
    errors=(ValidationError, UnsupportedMediaTypeError, UnavailableError),
    raw_body=True,
    tags=_TAGS,
)
async def set_freeze(request: ApiRequest) -> list[FreezeView]:
    """Takes the place of the list that was set before; what was learned from refusals stays unless it is named.

    A JSON list of ``{"exchange": "NFO", "underlying": "NIFTY", "quantity": 1800}`` (or ``symbol``), or with
    Content-Type text/csv lines under ``exchange,symbol,quantity``.
    """
    today = trading_day(cast("Services", request.services).clock.now())
    try:
        rows = _read(request, today)
    except FreezeFault as fault:
        raise ValidationError(f"the list is not usable: {fault}", details={"fields": {"body": str(fault)}}) from None
    keeper = _keeper(request)
    await keeper.replace(rows, by=f"user:{request.user.user_id}")
    return _freeze_views(keeper)


@endpoint(
    "GET",
    "/instruments/{exchange:str}/{symbol:str}",
    permission=Permission.READ,
    summary="Show an instrument",
    response=InstrumentView,
    errors=(NotFoundError, UnavailableError),
    tags=_TAGS,
)
async def show_instrument(request: ApiRequest) -> InstrumentView:
    """One instrument with tick, lot, freeze quantity and last price, which is kept fresh from now on."""
    services: Services = request.services
    _check_loaded(services)
    exchange = next((known for known in Exchange if known == request.path["exchange"].upper()), None)
    found = None if exchange is None else services.master.book.get(exchange, request.path["symbol"].upper())
    if found is None:
        raise NotFoundError("there is no such instrument in today's master")
    services.prices.watch(found.key)
    return instrument_view(found, services.prices.get(found.key))


def _view(services: Services, row: Found) -> InstrumentView:
    plain = row.instrument
    held = services.master.book.get(plain.exchange, plain.symbol) or plain
    return instrument_view(held, services.prices.get(held.key))


def _check_loaded(services: Services) -> None:
    if services.master.loaded_at is None:
        raise UnavailableError(
            "the instrument master has not been loaded yet: it needs a logged-in account", retry_after_s=5
        )


def _place(window: PageWindow) -> Place | None:
    if window.cursor is None:
        return None
    try:
        place: Place = msgspec.convert(window.cursor, Place)
    except msgspec.ValidationError:
        mend = "must be the nextCursor of the previous page"
        raise ValidationError("cursor is not usable", details={"fields": {"cursor": mend}}) from None
    return place


def _keeper(request: ApiRequest) -> FreezeKeeper:
    services: Services = request.services
    keeper: Any = services.extras["freeze"]
    return cast("FreezeKeeper", keeper)


def _freeze_views(keeper: FreezeKeeper) -> list[FreezeView]:
    return [freeze_view(row) for row in sorted(keeper.table, key=lambda row: (row.exchange, row.symbol))]


def _read(request: ApiRequest, today: date) -> list[FreezeQuantity]:
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if kind == "text/csv":
        try:
            return freeze_list(request.raw.decode("utf-8"), as_of=today)
        except UnicodeDecodeError:
            raise FreezeFault("save it as UTF-8") from None
    if kind != "application/json":
        raise UnsupportedMediaTypeError("send Content-Type: application/json or text/csv")
    return checked(
        [_row(number, body, today) for number, body in enumerate(decode_body(request.raw, list[FreezeBody]))]
    )


def _row(number: int, body: FreezeBody, today: date) -> FreezeQuantity:
    if (body.symbol is None) == (body.underlying is None):
        raise FreezeFault(f"element {number}: write either symbol or underlying")
    try:
        return freeze_row(body.exchange.value, body.symbol or body.underlying, body.quantity, as_of=today)
    except FreezeFault as fault:
        raise FreezeFault(f"element {number}: {fault}") from None

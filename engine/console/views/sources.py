"""/console/sources: where signals come from: their keys, shown once, with snippets; bounds, and what was missed."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.console.dialogs import Dialog, named, telling
from engine.console.forms import Field
from engine.console.pages import action, page
from engine.console.visit import Refused, Visit
from engine.domain.enums import SourceType
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/sources"
NEW, ONE = PATH + "/new", PATH + "/{id}"
_API = "/sources/{id}"
TYPES = (
    (SourceType.SHEETS.value, "Google Sheets"),
    (SourceType.TRADINGVIEW.value, "TradingView"),
    (SourceType.TELEGRAM.value, "Telegram"),
    (SourceType.WEBHOOK.value, "A program"),
)
KINDS: Mapping[str, Sequence[tuple[str, str]]] = {
    "sheets": (("sheets", "Google Sheets (Apps Script)"), ("curl", "curl"), ("python", "Python")),
    "webhook": (("curl", "curl"), ("python", "Python")),
    "tradingview": (("tradingview", "TradingView"),),
}
"""Which snippets the API offers for which type of source, and what people call them."""
_NAME = Field("name", "Name", required=True)
_TELEGRAM = (
    Field("telegramChatIds", "Telegram: chats", "numbers", "numbers of the chats that may signal"),
    Field("telegramUserIds", "Telegram: people", "numbers", "numbers of those who may signal there; empty: everybody"),
)
_BOUNDS = (
    Field("ipAllowlist", "Addresses it may send from", "words", "addresses, networks, tradingview; empty: any"),
    Field("allowedSymbols", "Symbols it may open", "words", "empty: those of the strategy"),
    Field("maxOrderValue", "Order value at most, rupees", "amount"),
    Field("checks.maxOrderQuantity", "Order quantity at most", "whole"),
    Field("checks.priceBandPct", "Price band, %", "amount", "distance from the last price"),
    Field("checks.maxSignalsPerMinute", "Signals in a minute at most", "whole"),
    Field("expectEveryS", "Heard at least every, seconds", "whole", "an alert tells when it is silent longer"),
)
_GRACES = (
    ("0", "End them now (after a leak)"),
    ("3600", "For an hour"),
    ("86400", "For a day"),
    ("604800", "For a week"),
)


@page(PATH, Permission.READ)
async def sources_page(visit: Visit) -> Raw:
    """Every source, when it was heard last, and what never came."""
    found = await visit.gather(
        sources=visit.listing("/sources", limit=100, cursor=visit.query.get("cursor")),
        strategies=visit.listing("/strategies", limit=200),
    )
    return visit.render(
        "sources.html",
        sources=found["sources"].items,
        next_cursor=found["sources"].next_cursor,
        strategies=named(found["strategies"].items, "name"),
        types=dict(TYPES),
    )


@page(NEW, Permission.TRADE)
async def new_form(visit: Visit) -> Raw:
    """The dialog that adds a source."""
    return (await _new(visit)).shown(visit)


@action(NEW, Permission.TRADE)
async def add(visit: Visit) -> Raw:
    """Adds a source and shows its keys, this once, with what to paste at the sender's end."""
    made, again = await (await _new(visit)).answered(
        visit, lambda body: visit.send("POST", "/sources", _sent(body)), whole=True
    )
    return again or await _keys(visit, made, f"{made['name']} is added")


@page(ONE, Permission.READ)
async def source_page(visit: Visit) -> Raw:
    """One source: its bounds, what was heard and what was missed, and what to paste at the sender's end."""
    source = await visit.get(_API, values=visit.request.path)
    found = await visit.gather(
        strategy=visit.get("/strategies/{id}", values={"id": source["strategyId"]}),
        snippets=None if visit.part else _snippets(visit, source),
    )
    return visit.render(
        "source.html", source=source, strategy=found["strategy"], snippets=found["snippets"] or [], types=dict(TYPES)
    )


@page(ONE + "/change", Permission.TRADE)
async def change_form(visit: Visit) -> Raw:
    """The dialog in which a source is changed."""
    return (await _change(visit)).shown(visit)


@action(ONE + "/change", Permission.TRADE)
async def change(visit: Visit) -> Raw:
    """Changes what differs; it holds for the next delivery."""
    made, again = await (await _change(visit)).answered(
        visit, lambda body: visit.send("PATCH", _API, body, values=visit.request.path)
    )
    return again or visit.done(f"{made['name']} is changed", changed="source")


@page(ONE + "/rotate", Permission.TRADE)
async def rotate_form(visit: Visit) -> Raw:
    """The dialog that asks how long the old keys stay good beside the new ones."""
    return _rotate(visit).shown(visit)


@action(ONE + "/rotate", Permission.TRADE)
async def rotate(visit: Visit) -> Raw:
    """Makes new keys and shows them, this once."""

    async def send(body: dict[str, Any]) -> Any:
        return await visit.send("POST", _API + "/rotate", {"graceS": int(body["graceS"])}, values=visit.request.path)

    made, again = await _rotate(visit).answered(visit, send, whole=True)
    return again or await _keys(visit, made, f"New keys of {made['name']}")


@action(ONE + "/revoke", Permission.TRADE)
async def revoke(visit: Visit) -> Raw:
    """Ends the old keys at once."""
    await visit.send("POST", _API + "/revoke", values=visit.request.path)
    return visit.done("Only the newest keys are believed now", changed="source")


@action(ONE + "/reset", Permission.TRADE)
async def reset(visit: Visit) -> Raw:
    """Counts the numbers of its signals from the next one on."""
    await visit.send("PATCH", _API, {"resetSequence": True}, values=visit.request.path)
    return visit.done("Its numbers are counted from the next signal on", changed="source")


@page(ONE + "/delete", Permission.TRADE)
async def delete_form(visit: Visit) -> Raw:
    """The dialog that asks whether a source shall go."""
    return _delete(await visit.get(_API, values=visit.request.path)).shown(visit)


@action(ONE + "/delete", Permission.TRADE)
async def delete(visit: Visit) -> Raw:
    """Takes a source away; its keys stop working at once."""
    dialog = _delete(await visit.get(_API, values=visit.request.path))
    _, again = await dialog.answered(visit, lambda _: visit.send("DELETE", _API, values=visit.request.path))
    return again or visit.redirect(PATH)


async def _keys(visit: Visit, source: Mapping[str, Any], title: str) -> Raw:
    snippets = await _snippets(visit, source)
    answer = visit.fragment("source_keys.html", "keys", source=source, title=title, snippets=snippets)
    return telling(answer, "source")


async def _snippets(visit: Visit, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what can be pasted at the sender's end, each way with its name; none for Telegram."""
    made = []
    for kind, words in KINDS.get(source["type"], ()):
        try:
            found = await visit.get("/sources/{id}/snippet", values={"id": source["id"]}, kind=kind)
        except Refused:
            # the keys are shown this once: they must not be lost because there is nothing to paste
            continue
        made.append({**found, "words": words})
    return made


def _sent(body: Mapping[str, Any]) -> dict[str, Any]:
    checks = {name: value for name, value in body["checks"].items() if value is not None}
    kept = {name: value for name, value in body.items() if value is not None and name != "checks"}
    return kept | ({"checks": checks} if checks else {})


async def _new(visit: Visit) -> Dialog:
    strategies = await visit.listing("/strategies", limit=200)
    choices = tuple((each["id"], each["name"]) for each in strategies.items)
    return Dialog(
        path=NEW,
        title="Add a source",
        text="Its keys are shown once, right after this.",
        submit="Add it",
        fields=(
            Field("type", "Signals come from", "choice", choices=TYPES, required=True),
            _NAME,
            Field("strategyId", "For the strategy", "choice", choices=choices, required=True),
            *_TELEGRAM,
            *_BOUNDS,
            Field("strictReplay", "Take one signed message once, whatever its Idempotency-Key", "flag"),
        ),
        before={"type": "sheets", "strategyId": visit.query.get("strategyId", "")},
    )


async def _change(visit: Visit) -> Dialog:
    source = await visit.get(_API, values=visit.request.path)
    is_telegram = source["type"] == SourceType.TELEGRAM
    return Dialog(
        path=f"{PATH}/{source['id']}/change",
        title=f"Change {source['name']}",
        text="It holds for the next delivery.",
        submit="Save",
        fields=(
            _NAME,
            *(_TELEGRAM if is_telegram else ()),
            *(each for each in _BOUNDS if not (is_telegram and each.name == "expectEveryS")),
            Field("requireTimestamp", "Wants X-Timestamp, so that a message is no longer good after minutes", "flag"),
            Field("strictReplay", "Takes one signed message once, whatever its Idempotency-Key", "flag"),
            Field("enabled", "Takes signals", "flag"),
        ),
        before=source,
    )


def _rotate(visit: Visit) -> Dialog:
    return Dialog(
        path=f"{PATH}/{visit.request.path['id']}/rotate",
        title="Make new keys?",
        text="They are shown once, right after this.",
        submit="Make new keys",
        fields=(Field("graceS", "The old keys stay good", "choice", choices=_GRACES, required=True),),
        before={"graceS": "3600"},
    )


def _delete(source: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{source['id']}/delete",
        title=f"Delete {source['name']}?",
        text="Its keys stop working at once; what it sent stays on record.",
        submit="Delete it",
        kind="danger",
        keep="Keep it",
    )

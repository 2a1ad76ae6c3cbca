"""Signals as text: the grammar that people type into a chat or an alert (contract section 8).

    text   = block, { empty line, block }
    block  = first line, { label line }
    first  = side symbol exchange
           | side symbol exchange quantity [ "@" price ] type product
    side   = "BUY" | "SELL"
    symbol = a word, or a contract in words (`engine.domain.contracts`)
    label  = ( "Qty" | "Price" | "Type" | "Product" | "Trigger" | "SL" | "Target" | "Validity" | "Account" | "Variety"
             | "Exits" | "Protection" | "Disclosed" | "TTL" | "Legs" | "Auction" | "Position" ) ":" value

Words in any letter case, labels in any order, spaces around anything. Type, product and either quantity or position
must be there (a position decides the side by itself, whatever the first word is); all of it printable ASCII.
The one-line form may be followed by labels for what it has no place for. What can be read two ways is refused
with the line and the reason. Lines are cut, never searched, so the time taken is linear in the text.
"""

import unicodedata
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.options import ExitMode
from engine.domain.signal import Refusal, Signal
from engine.signals import fields
from engine.signals.refusals import RefusalCode, Refused, quote

MAX_TEXT_BYTES = 4096

_NAMES = fields.Names(
    price="Price",
    trigger_price="Trigger",
    order_type="Type",
    stop_loss="SL",
    quantity="Qty",
    disclosed_quantity="Disclosed",
    validity_ttl="TTL",
    iceberg_legs="Legs",
    auction_number="Auction",
    market_protection="Protection",
    exits="Exits",
    position_size="Position",
)
_SIDES = ("BUY", "SELL")
_EXCHANGES = frozenset(exchange.value for exchange in Exchange)
_FIRST_WORD_CHARS = 64
_FIRST_LINE = "write a first line like BUY RELIANCE NSE or BUY RELIANCE NSE 10 @ 2450.50 LIMIT MIS"


def parse_text(text: str) -> tuple[Signal | Refusal, ...]:
    """Read every signal of *text*, one verdict per block; never raises.

    Plain chat (no line begins with BUY or SELL), a text over 4 KiB and one of more than 100 blocks give
    a single `Refusal` for the whole.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if not any(_begins_signal(line) for line in lines):
        return (Refusal(code=RefusalCode.NOT_A_SIGNAL, message="no line begins with BUY or SELL"),)
    if (size := len(text.encode("utf-8", "surrogatepass"))) > MAX_TEXT_BYTES:
        return (
            Refusal(code=RefusalCode.TEXT_TOO_LONG, message=f"send at most {MAX_TEXT_BYTES} bytes of text, not {size}"),
        )
    blocks = _blocks(lines)
    if len(blocks) > fields.MAX_SIGNALS:
        return (
            Refusal(
                code=RefusalCode.BATCH_TOO_LARGE,
                message=f"send at most {fields.MAX_SIGNALS} signals at once, not {len(blocks)}",
            ),
        )
    return tuple(_verdict(blocks, index) for index in range(len(blocks)))


def _begins_signal(line: str) -> bool:
    # Generous where the grammar is strict: a text that hides BUY behind a bullet, full-width letters or
    # a direction mark is someone's signal and deserves a refusal, not silence.
    start = unicodedata.normalize("NFKC", line.lstrip()[:_FIRST_WORD_CHARS])
    words = "".join(
        char if char.isalnum() else "" if unicodedata.category(char) == "Cf" else " " for char in start
    ).split()
    return bool(words) and words[0].upper() in _SIDES


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip(" "):
            blocks[-1].append(line.strip(" "))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _verdict(blocks: list[list[str]], index: int) -> Signal | Refusal:
    block = blocks[index]
    try:
        if not _begins_signal(block[0]):
            raise _stray(block)
        for neighbour in blocks[max(index - 1, 0) : index + 2]:
            # A stop loss cut off by an empty line would leave the block above it looking whole.
            if _is_loose_end(neighbour):
                raise Refused(
                    RefusalCode.BAD_LINE,
                    "this stands beside a signal and may belong to it: take the empty line out, or send it by itself",
                    line=quote(neighbour[0]),
                )
        return _signal(block)
    except Refused as refused:
        return refused.refusal


def _is_loose_end(block: list[str]) -> bool:
    return not _begins_signal(block[0]) and any(char == ":" or char.isdigit() for line in block for char in line)


def _stray(block: list[str]) -> Refused:
    code = RefusalCode.BAD_LINE if _is_loose_end(block) else RefusalCode.NOT_A_SIGNAL
    return Refused(code, f"a signal begins with BUY or SELL: {_FIRST_LINE}", line=quote(block[0]))


def _signal(block: list[str]) -> Signal:
    found: dict[str, Any] = {}
    lines: dict[str, str] = {}
    for number, line in enumerate(block):
        try:
            if not (line.isascii() and line.isprintable()):
                raise Refused(RefusalCode.BAD_CHARACTER, "use plain keyboard letters, digits and signs only")
            for attribute, value in _read_label(line, found) if number else _read_first(line):
                found[attribute] = value
                lines[attribute] = line
        except Refused as refused:
            raise refused.at(line) from None
    for label in ("Qty", "Type", "Product") if "position_size" not in found else ("Type", "Product"):
        if _LABELS[label.upper()].attribute not in found:
            raise Refused(RefusalCode.MISSING_FIELD, f"{label} is missing: add it", field=label).at(block[0])
    try:
        return fields.build(fields.Draft(**({"quantity": None} | found)), _NAMES)
    except Refused as refused:
        culprit = _LABELS[(refused.refusal.field or "").upper()].attribute
        raise refused.at(lines.get(culprit, block[0])) from None


def _read_first(line: str) -> list[tuple[str, Any]]:
    words = line.replace("@", " @ ").split(" ")
    words = [word for word in words if word]
    match _one_symbol(words):
        case [side, name, exchange]:
            rest: list[tuple[str, str]] = []
        case [side, name, exchange, quantity, kind, product]:
            rest = [("QTY", quantity), ("TYPE", kind), ("PRODUCT", product)]
        case [side, name, exchange, quantity, "@", price, kind, product]:
            rest = [("QTY", quantity), ("PRICE", price), ("TYPE", kind), ("PRODUCT", product)]
        case _:
            raise Refused(RefusalCode.BAD_LINE, _FIRST_LINE)
    return [
        ("transaction_type", fields.word(TransactionType, side, "first word")),
        ("symbol", fields.symbol(name, "symbol")),
        ("exchange", fields.word(Exchange, exchange, "exchange")),
        *((_LABELS[label].attribute, _LABELS[label].value(text)) for label, text in rest),
    ]


def _one_symbol(words: list[str]) -> list[str]:
    """Return *words* with those of a contract joined to one; as they are when there is none."""
    for after in range(3, len(words)):
        if words[after].upper() in _EXCHANGES and fields.is_contract(" ".join(words[1:after])):
            return [words[0], " ".join(words[1:after]), *words[after:]]
    return words


def _read_label(line: str, found: dict[str, Any]) -> list[tuple[str, Any]]:
    name, colon, text = (part.strip(" ") for part in line.partition(":"))
    if not colon:
        raise Refused(RefusalCode.BAD_LINE, "write Label: value, and an empty line before the next signal")
    label = _LABELS.get(name.upper())
    if label is None:
        known = ", ".join(label.name for label in _LABELS.values())
        raise Refused(
            RefusalCode.UNKNOWN_FIELD, f"'{quote(name, 40)}' is not a label: known are {known}", field=quote(name, 40)
        )
    if label.attribute in found:
        raise Refused(RefusalCode.REPEATED_FIELD, f"{label.name} is given twice: keep one", field=label.name)
    if not text:
        raise Refused(
            RefusalCode.MISSING_FIELD, f"{label.name} is empty: fill it in or drop the line", field=label.name
        )
    return [(label.attribute, label.value(text))]


class _Label(msgspec.Struct, frozen=True):
    """A label: how it is shown, the field it fills, and the reader of its value."""

    name: str
    attribute: str
    read: Callable[[str, str], Any]

    def value(self, text: str) -> Any:
        return self.read(text, self.name)


def _word(kind: type[StrEnum]) -> Callable[[str, str], Any]:
    return lambda text, name: fields.word(kind, text, name)


_LABELS: Mapping[str, _Label] = {
    label.name.upper(): label
    for label in (
        _Label("Qty", "quantity", fields.quantity),
        _Label("Price", "price", fields.price),
        _Label("Type", "order_type", _word(OrderType)),
        _Label("Product", "product_type", _word(ProductType)),
        _Label("Trigger", "trigger_price", fields.price),
        _Label("SL", "stop_loss", fields.price),
        _Label("Target", "target", fields.price),
        _Label("Validity", "validity", _word(Validity)),
        _Label("Account", "account", fields.account),
        _Label("Variety", "variety", _word(Variety)),
        _Label("Exits", "exits", _word(ExitMode)),
        _Label("Protection", "market_protection", fields.protection),
        _Label("Disclosed", "disclosed_quantity", fields.quantity),
        _Label("TTL", "validity_ttl", fields.ttl_minutes),
        _Label("Legs", "iceberg_legs", fields.legs),
        _Label("Auction", "auction_number", fields.auction),
        _Label("Position", "position_size", fields.position),
    )
}

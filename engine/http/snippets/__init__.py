"""What a person pastes into a sheet, an alert or a shell, made for one source. No secret is ever in it."""

from enum import StrEnum
from importlib import resources

import msgspec

from engine.domain.directory import Source
from engine.domain.enums import SourceType

_CONNECT = "The API key and the secret were shown when the source was made or last rotated; rotate it if they are lost."


class Kind(StrEnum):
    """For what the text is."""

    SHEETS = "sheets"
    TRADINGVIEW = "tradingview"
    CURL = "curl"
    PYTHON = "python"


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A text to paste and what it is called."""

    name: str
    content: str


class Snippet(msgspec.Struct, frozen=True, kw_only=True):
    """The texts of one kind, the first for most people, and what to do with them, step by step."""

    texts: tuple[Text, ...]
    steps: tuple[str, ...]


OFFERED = {
    SourceType.SHEETS: (Kind.SHEETS, Kind.CURL, Kind.PYTHON),
    SourceType.WEBHOOK: (Kind.CURL, Kind.PYTHON),
    SourceType.TRADINGVIEW: (Kind.TRADINGVIEW,),
}
"""Which kinds fit a source; the first is meant when none is asked for."""


def render(source: Source, kind: Kind, *, base_url: str) -> Snippet:
    """Return what to paste for *source*, which reaches the engine at *base_url*.

    Raises ValueError for a kind that its type does not offer.
    """
    if kind not in OFFERED.get(source.type, ()):
        raise ValueError(kind)
    is_sheet = source.type is SourceType.SHEETS
    path = "/api/v1/signals/sheets/webhook" if is_sheet else f"/api/v1/signals/webhook/{source.id}"
    marks = {"__BASE_URL__": base_url, "__PATH__": path, "__SOURCE_ID__": str(source.id)}
    match kind:
        case Kind.SHEETS:
            return Snippet(
                texts=(_text("sheets.gs", "Code.gs", marks),),
                steps=(
                    "In the spreadsheet open Extensions > Apps Script and replace everything there by the text.",
                    "Save, reload the spreadsheet, choose Engine > Connect and allow what Google asks.",
                    f"Paste the API key and the secret where it asks for them. {_CONNECT}",
                    "Fill in rows and tick Send. The engine must be reachable from the internet over HTTPS.",
                ),
            )
        case Kind.TRADINGVIEW:
            return Snippet(
                texts=(
                    _text("tradingview.txt", "strategy orders, JSON", marks),
                    _text("tradingview-position.txt", "strategy position, JSON", marks),
                    _text("tradingview-text.txt", "strategy orders, text", marks),
                ),
                steps=(
                    "In the alert's notifications tick Webhook URL and paste the source's webhookUrl, which carries its"
                    " secret: "
                    f"{base_url}/api/v1/signals/tradingview/{source.id}?secret=PASTE-THE-SECRET-HERE",
                    "Paste one of the texts as the alert's message. The second makes the account hold what the strategy"
                    " holds, the first sends each of its orders.",
                    "Adjust productType and orderType. TradingView calls ports 80 and 443 only, and never IPv6.",
                    'To let nobody else in, set the source\'s ipAllowlist to ["tradingview"].',
                    _CONNECT,
                ),
            )
        case Kind.CURL:
            return Snippet(texts=(_text("curl.sh", "send.sh", marks),), steps=_shell("bash send.sh"))
        case _:
            return Snippet(texts=(_text("sender.py.txt", "send.py", marks),), steps=_shell("python3 send.py"))


def _shell(command: str) -> tuple[str, ...]:
    return ("Set ENGINE_API_KEY and ENGINE_SECRET in the environment.", _CONNECT, f"Run: {command}")


def _text(file: str, name: str, marks: dict[str, str]) -> Text:
    content = (resources.files(__name__) / file).read_text(encoding="utf-8")
    for mark, value in marks.items():
        content = content.replace(mark, value)
    return Text(name=name, content=content)

"""Ways to damage an answer: bytes flipped, cut, doubled; values of JSON swapped for what nobody expects."""

import json
from typing import Any

from hypothesis import strategies as st

_ODD_NUMBERS = [
    "1e400",
    "-1e400",
    "1e-400",
    "9" * 400,
    "-0",
    "1e308",
    "0.1e-30",
    "NaN",
    "Infinity",
    "9223372036854775808",
]
_ODD_TEXTS = [
    "",
    "\x00",
    "\ud800",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "2026-02-30 10:00:00",
    "2026-11-20 09:18:57+99:99",
    "2026-11-20T09:18:57Z",
    "09:18:57",
    "x" * 5000,
    "\u202e\u2028",
    "🙂",
]
_DEEP = "[" * 3000 + "]" * 3000


def _odd_json() -> st.SearchStrategy[str]:
    return st.one_of(
        st.sampled_from(_ODD_NUMBERS),
        st.sampled_from(_ODD_TEXTS).map(json.dumps),
        st.sampled_from(["null", "true", "false", "{}", "[]", "[null]", '{"a":{}}', _DEEP]),
        st.integers().map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text(max_size=30).map(json.dumps),
    )


@st.composite
def maimed_json(draw: st.DrawFn, body: bytes, times: int = 3) -> bytes:
    """*body* with up to *times* values replaced, at any depth, or their keys dropped or doubled."""
    tree = json.loads(body)
    marks: list[str] = []
    for _ in range(draw(st.integers(1, times))):
        places = list(_places(tree))
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.integers(0, 9))
        if how == 0 and isinstance(holder, dict):
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = f"<mark{len(marks)}>"
            marks.append(draw(_odd_json()))
        if not tree:
            break
    text = json.dumps(tree)
    for number, odd in enumerate(marks):
        text = text.replace(f'"<mark{number}>"', odd)
    return text.encode("utf-8", "surrogatepass")


def _places(tree: Any) -> Any:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield tree, key
            yield from _places(value)
    elif isinstance(tree, list):
        for at, value in enumerate(tree):
            yield tree, at
            yield from _places(value)


@st.composite
def maimed_bytes(draw: st.DrawFn, body: bytes) -> bytes:
    """*body* with one to four injuries: a byte changed, a part cut out, doubled, or put in; the end cut off."""
    found = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        upto = min(len(found), at + draw(st.integers(1, 40)))
        match draw(st.integers(0, 4)):
            case 0:
                found[at:upto] = draw(st.binary(max_size=20))
            case 1:
                del found[at:upto]
            case 2:
                found[at:at] = found[at:upto]
            case 3:
                del found[at:]
            case _ if found:
                found[at] = draw(st.integers(0, 255))
    return bytes(found)


def damaged(body: bytes, *, is_json: bool = True) -> st.SearchStrategy[bytes]:
    """Anything at all, or *body* damaged by one of the ways."""
    ways = [st.binary(max_size=80), maimed_bytes(body)]
    return st.one_of(*ways, maimed_json(body)) if is_json else st.one_of(*ways)

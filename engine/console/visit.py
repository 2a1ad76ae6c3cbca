"""One request to the console: who looks, what the API says to them, and the page or the word that answers."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import trio

from engine.console.navigation import pages_for
from engine.console.session import Seat
from engine.console.templating import render
from engine.errors import BadRequestError
from engine.http.endpoint import ApiRequest, Raw
from engine.http.errors import encode
from engine.http.permissions import Permission, Principal, is_allowed

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HTML = "text/html; charset=utf-8"
_PART = "_part"
_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 100
# decimals of the API stay what they are
_decoder = msgspec.json.Decoder(float_hook=Decimal)


class Refused(Exception):
    """What the API answered instead: ``code`` for programs, ``fields`` what is wrong with which field."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    @property
    def fields(self) -> Mapping[str, str]:
        """What is wrong with each field, by the API's name of it; empty when it is not about fields."""
        found = self.details.get("fields", {})
        return found if isinstance(found, dict) else {}


class Listing(msgspec.Struct, frozen=True):
    """A page of one of the API's lists; ``next_cursor`` is None on the last."""

    items: Sequence[dict[str, Any]]
    next_cursor: str | None


class Visit:
    """What a view works with; every call of the API is made as the signed-in person, with all checks of the API."""

    def __init__(self, request: ApiRequest, seat: Seat | None) -> None:
        self.request = request
        self.seat = seat
        self.set_cookie = None if seat is None else seat.set_cookie
        self.query: dict[str, str] = dict(request.query or {})
        self.part = self.query.pop(_PART, "")
        self.form = _form(request)
        self.kill_scopes: Sequence[dict[str, Any]] | None = None
        self.path = str(request.endpoint.path)
        for name, value in request.path.items():
            self.path = self.path.replace("{" + name + "}", str(value)).replace("{" + name + ":str}", str(value))

    @property
    def me(self) -> Principal:
        """Who looks; only on pages that ask for a permission."""
        assert self.seat is not None  # noqa: S101 -- the page's declaration has seen to it
        return self.seat.principal

    def can(self, permission: Permission) -> bool:
        """Tell whether the person holds *permission*: what it does not is not offered."""
        return is_allowed(permission, self.me.role)

    @property
    def is_fragment(self) -> bool:
        """Whether a script of the page asks, not a person's address bar."""
        return self.request.header("hx-request") == "true"

    # the API

    async def get(self, path: str, *, values: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Return the ``data`` of a GET of the API; empty filters are left out. Raises Refused."""
        return (await self._call("GET", path, values, query, None))["data"]

    async def listing(self, path: str, *, values: Mapping[str, Any] | None = None, **query: Any) -> Listing:
        """Return one page of a list of the API. Raises Refused."""
        content = await self._call("GET", path, values, query, None)
        return Listing(content["data"], content["page"]["nextCursor"])

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, values: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the ``data`` of a change. Raises Refused.

        The ``_once`` of the form, if it has one, is the Idempotency-Key: a form that is sent twice acts once.
        """
        return (await self._call(method, path, values, {}, body))["data"]

    async def gather(self, **wanted: Any) -> dict[str, Any]:
        """Wait for several awaitables at once and return their results by name. Raises the first Refused.

        A name whose value is None stays None, so that a page asks only for what the person may see.
        """
        found: dict[str, Any] = dict.fromkeys(wanted)
        faults: list[Refused] = []

        async def one(name: str, each: Any) -> None:
            try:
                found[name] = await each
            except Refused as refused:
                faults.append(refused)

        async with trio.open_nursery() as nursery:
            for name, each in wanted.items():
                if each is not None:
                    nursery.start_soon(one, name, each)
        if faults:
            raise faults[0]
        return found

    async def _call(
        self,
        method: str,
        path: str,
        values: Mapping[str, Any] | None,
        query: Mapping[str, Any],
        body: Mapping[str, Any] | None,
    ) -> Any:
        answer = await self.open(method, path, values=values, query=query, body=body)
        content = _decoder.decode(answer.body)
        if content["success"]:
            return content
        error = content["error"]
        raise Refused(answer.status, error["code"], error["message"], error["details"])

    async def open(
        self,
        method: str,
        path: str,
        *,
        values: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the API's answer as it is (`engine.http.dispatch.Outgoing`), a stream too."""
        own = {"user-agent": self.request.header("user-agent") or ""}
        if self.seat is not None:
            own["authorization"] = f"Bearer {self.seat.tokens.access}"
        if method != "GET" and self.form.get("_once"):
            # as bytes of a header: what is not ASCII is the API's to refuse
            own["idempotency-key"] = self.form["_once"].encode().decode("latin-1")
        assert self.request.calls is not None  # noqa: S101 -- every dispatcher of the engine has them
        return await self.request.calls.send(
            self.request,
            method,
            path,
            values={name: str(value) for name, value in (values or {}).items()},
            query={name: str(value) for name, value in (query or {}).items() if value not in (None, "")},
            headers={**own, **(headers or {})},
            body=b"" if body is None else encode(body),
        )

    # answers

    def render(self, template: str, *, status: int = 200, **context: Any) -> Raw:
        """Return the page of *template*, or the part of it that was asked for (``?_part=NAME``: block part_NAME)."""
        text = render(template, self.part, self._shell() | context)
        return self._raw(text.encode(), status)

    def fragment(self, template: str, part: str, *, status: int = 200, **context: Any) -> Raw:
        """Return the block ``part_PART`` of *template*, for a dialog or a form that is shown again."""
        return self._raw(render(template, part, self._shell() | context).encode(), status)

    def done(self, text: str, *, changed: str = "", close: bool = True, kind: str = "good") -> Raw:
        """Return the word that something was done: a toast, and *changed* kinds of live parts are read anew."""
        said = {"console:toast": {"kind": kind, "text": text}, "console:changed": {"kinds": changed}}
        return self.told(said | ({"console:close": True} if close else {}), status=204)

    def told(self, events: Mapping[str, Any], *, status: int) -> Raw:
        """Return an answer without content that makes the page's scripts hear *events*."""
        # what a header holds is ASCII: other letters are escaped
        return Raw(b"", HTML, status, {"HX-Trigger": json.dumps(dict(events))})

    def json(self, value: Any) -> Raw:
        """Return *value* for a script of the page, decimals as numbers."""
        return Raw(encode(value), "application/json")

    def redirect(self, path: str) -> Raw:
        """Return the way to another page, for a script and for a person's browser alike."""
        if self.is_fragment:
            return Raw(b"", HTML, HTTPStatus.OK, {"HX-Redirect": path})
        return Raw(b"", HTML, HTTPStatus.SEE_OTHER, {"Location": path})

    def url(self, part: str = "", **query: Any) -> str:
        """Return the address of this page with its filters, of a *part* of it, with *query* in place of old values."""
        asked = {name: value for name, value in {**self.query, **query}.items() if value not in (None, "")}
        if part:
            asked[_PART] = part
        return self.path + (f"?{urlencode(asked)}" if asked else "")

    def _raw(self, body: bytes, status: int) -> Raw:
        return Raw(body, HTML, status, {"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    def _shell(self) -> dict[str, Any]:
        services = self.request.services
        signed_in = self.seat is not None
        hub = services.extras.get("hub")
        return {
            "visit": self,
            "me": self.me if signed_in else None,
            "can": self.can,
            "nav": pages_for(self.me) if signed_in else (),
            "mode": services.config.broker.mode,
            "theme": _theme(self.request.header("cookie") or ""),
            "page_token": "" if self.seat is None else self.seat.page_token,
            "stream_from": "" if hub is None else hub.ring.id_of(hub.ring.newest),
            "scopes": self.kill_scopes,
            "now": services.clock.now(),
        }


def _form(request: ApiRequest) -> dict[str, str]:
    if not request.raw or not (request.header("content-type") or "").startswith(_FORM):
        return {}
    try:
        pairs = parse_qsl(request.raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadRequestError(f"a form may have at most {_MAX_FIELDS} fields") from None
    return {name: text if name.lower().endswith("password") else text.strip() for name, text in pairs}


def _theme(cookies: str) -> str:
    found = [part.strip().partition("=")[2] for part in cookies.split(";") if part.strip().startswith("console_theme=")]
    return found[0] if found and found[0] in {"light", "dark"} else ""

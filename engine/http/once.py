"""Idempotency-Key: a call that is repeated with its key gets the first answer, and runs once.

The key is taken in the store before the call runs, and the answer is kept with it afterwards, sealed: it may show a
secret this once. A repeat while the first runs, or after one whose outcome nobody knows (a crash, a deadline), is
told so and does not run. What was refused frees its key: nothing was done. Kept for 24 hours, per caller.

What may be repeated without harm (``Once.REPEATABLE``: cancelling, closing positions) is never held up: it runs when
the store is away or the first outcome is unknown. The kill switch and signals (``Once.OWN``) see to it themselves.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from uuid import UUID

import msgspec
import structlog
import trio

from engine.clock import Clock
from engine.errors import ApiError, ConflictError, KillSwitchError, StoreUnavailable, UnavailableError
from engine.http.endpoint import ApiRequest, Once
from engine.http.json_body import invalid
from engine.ids import uuid7
from engine.secret import Secret
from engine.security.envelope import SecretUnreadable
from engine.store import idempotency as store
from engine.store.database import Database
from engine.store.directory import Vault

_log = structlog.get_logger(__name__)

REPLAYED = "Idempotency-Replayed"
KEPT_FOR = timedelta(hours=24)
_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)
_STORE_S = 5.0
_REPEATABLE_STORE_S = 1.0
# handlers of KEPT calls end within their own waits for the store (5 s each); a shield without a deadline could hold
# up the shutdown
_RUN_S = 12.0
_TIDY_EVERY = timedelta(minutes=10)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A finished answer, as it went out."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


Run = Callable[[], Awaitable[Answer]]


def key_of(request: ApiRequest) -> str | None:
    """Return the Idempotency-Key header, None without one. Raises ValidationError."""
    given = request.header("idempotency-key")
    if given is not None and not _KEY.fullmatch(given):
        raise invalid({"Idempotency-Key": "must be 1 to 200 visible ASCII characters"})
    return given


def fingerprint(request: ApiRequest, key: bytes) -> bytes:
    """Return what makes two calls the same: HMAC-SHA256 of method, path and the bytes of the body.

    Under a *key* that is not in the store: a body may hold a password, and whoever reads the store, or a backup of it,
    could try passwords against a plain hash as fast as hashing goes.
    """
    path = request.endpoint.template.format(**request.path)
    head = msgspec.json.encode([request.method, path])
    return hmac.digest(key, len(head).to_bytes(4, "big") + head + request.raw, hashlib.sha256)


class OnceKeeper:
    """Runs keyed calls once; *mark_key* is what fingerprints of calls are made under."""

    def __init__(self, *, database: Database, vault: Vault, clock: Clock, mark_key: bytes) -> None:
        self._mark_key = mark_key
        self._database = database
        self._vault = vault
        self._clock = clock
        self._running: dict[tuple[UUID, str], bytes] = {}
        self._tidied = clock.now()

    async def answer(self, request: ApiRequest, run: Run) -> Answer:
        """Return the answer of *run*, or what an earlier call with the same key answered.

        Raises ConflictError for a key that another call has, one that still runs, or whose outcome is unknown;
        UnavailableError when the key cannot be taken; and what *run* raises.
        """
        once, key = request.endpoint.once, key_of(request)
        if key is None or once in (Once.NO, Once.OWN):
            return await run()
        mark, place = fingerprint(request, self._mark_key), (request.user.user_id, key)
        running = self._running.get(place)
        if running is not None:
            if running != mark:
                raise _reused()
            raise ConflictError(
                "the first call with this Idempotency-Key is still running; ask again in a moment",
                code="IDEMPOTENCY_IN_FLIGHT",
            )
        self._running[place] = mark
        try:
            return await self._first_or_kept(once, place, mark, run)
        finally:
            del self._running[place]

    async def _first_or_kept(self, once: Once, place: tuple[UUID, str], mark: bytes, run: Run) -> Answer:
        try:
            call = await self._take(place, mark, _REPEATABLE_STORE_S if once is Once.REPEATABLE else _STORE_S)
        except StoreUnavailable:
            if once is Once.REPEATABLE:
                return await run()
            raise UnavailableError(
                "the store does not answer, so nothing was done: with an Idempotency-Key this needs it; try again",
                retry_after_s=2,
            ) from None
        if not call.is_new:
            if call.fingerprint != mark:
                raise _reused()
            kept = self._open(call)
            if kept is not None:
                return msgspec.structs.replace(kept, headers={**kept.headers, REPLAYED: "true"})
            if once is not Once.REPEATABLE:
                raise _unknown()
        if once is Once.REPEATABLE:
            return await self._run(once, call.id, run)
        # to its end even if the client goes away: its repeat must find an answer
        with trio.move_on_after(_RUN_S, shield=True):
            return await self._run(once, call.id, run)
        raise _unknown()

    async def _run(self, once: Once, call_id: UUID, run: Run) -> Answer:
        try:
            answer = await run()
        except ApiError as error:
            if _is_refusal(error):
                await self._quietly(lambda connection: store.give_back(connection, call_id=call_id))
            raise
        if once is Once.UNKEPT:
            return answer
        sealed = self._vault.seal(
            Secret(base64.b64encode(msgspec.json.encode(answer)).decode()),
            table="idempotency_keys",
            column="answer",
            row_id=call_id,
            version=1,
        )
        if sealed is not None:
            await self._quietly(lambda connection: store.keep_answer(connection, call_id=call_id, answer=sealed))
        return answer

    async def _take(self, place: tuple[UUID, str], mark: bytes, timeout_s: float) -> store.KeptCall:
        now = self._clock.now()
        tidy = now - self._tidied > _TIDY_EVERY
        if tidy:
            self._tidied = now

        async def unit(connection: object) -> store.KeptCall:
            if tidy:
                await store.forget_older(connection, horizon=now - KEPT_FOR)
            return await store.take_key(
                connection,
                call_id=uuid7(),
                user_id=place[0],
                key=place[1],
                fingerprint=mark,
                now=now,
                horizon=now - KEPT_FOR,
            )

        return await self._database.run(unit, timeout_s=timeout_s, shield=True)

    async def _quietly(self, unit: Callable[[object], Awaitable[None]]) -> None:
        # what the call did stands; without its answer a repeat is told that the outcome is unknown
        try:
            await self._database.run(unit, timeout_s=_STORE_S, shield=True)
        except StoreUnavailable as error:
            _log.warning("the answer of a keyed call was not kept", error=str(error))

    def _open(self, call: store.KeptCall) -> Answer | None:
        try:
            opened = self._vault.open(call.answer, table="idempotency_keys", column="answer", row_id=call.id, version=1)
        except SecretUnreadable:
            raise ConflictError(
                "the first call with this Idempotency-Key was carried out; its answer cannot be read any more",
                code="IDEMPOTENCY_ANSWER_LOST",
            ) from None
        return None if opened is None else msgspec.json.decode(base64.b64decode(opened.reveal()), type=Answer)


def _is_refusal(error: ApiError) -> bool:
    return error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, KillSwitchError)


def _reused() -> ConflictError:
    return ConflictError(
        "this Idempotency-Key was used for another call in the last 24 hours; take a new one",
        code="IDEMPOTENCY_KEY_REUSED",
    )


def _unknown() -> ConflictError:
    return ConflictError(
        "an earlier call with this Idempotency-Key may have been carried out, and its outcome is not known; look "
        "whether it was before you send it again under a new key",
        code="IDEMPOTENCY_OUTCOME_UNKNOWN",
    )

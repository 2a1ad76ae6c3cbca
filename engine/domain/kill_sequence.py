"""A kill switch over all its accounts: how far it is, and the certificate of what it came to."""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from uuid import UUID, uuid5

import msgspec

from engine.domain.enums import KillMode, KillState
from engine.domain.flatten import Demand, NotFlat, Proof, Stage, Standing
from engine.domain.killswitch import GLOBAL, KillRecord


class KillOutcome(StrEnum):
    """What a certificate says: orders ended (mode CANCEL), flat by proof, or not flat and why."""

    CANCELLED = "CANCELLED"
    FLAT_VERIFIED = "FLAT_VERIFIED"
    FLAT_FAILED = "FLAT_FAILED"


class _Content(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class HeldContent(_Content, frozen=True, kw_only=True):
    """A position as the broker showed it; signed units."""

    exchange: str
    symbol: str
    product: str
    quantity: int


class ProofContent(_Content, frozen=True, kw_only=True):
    """One look at the broker (UTC): what its order book and positions showed of the scope."""

    book_at: datetime
    positions_at: datetime | None
    orders: int
    filled_units: int
    open_orders: tuple[str, ...]
    positions: tuple[HeldContent, ...]


class LeftContent(_Content, frozen=True, kw_only=True):
    """What is not flat, and why; ``quantity`` is null where the broker's answers did not agree."""

    exchange: str
    symbol: str
    product: str
    quantity: int | None
    open_orders: int
    why: str


class AccountContent(_Content, frozen=True, kw_only=True):
    """One account: flat or not, from its begin to the second proof, and requests that were on the wire then."""

    account_id: UUID
    flat: bool
    took_s: float | None
    in_flight: int
    in_doubt: int
    proofs: tuple[ProofContent, ...]
    not_flat: tuple[LeftContent, ...]


class CertificateContent(_Content, frozen=True, kw_only=True):
    """What is signed. ``timeToBlockS`` is from the trip's arrival at the guardian until no gate let an order pass."""

    scope: str
    mode: KillMode
    outcome: KillOutcome
    actor: str
    reason: str
    tripped_at: datetime
    created_at: datetime
    time_to_block_s: float | None
    time_to_flat_s: float | None
    accounts: tuple[AccountContent, ...]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A signed record; ``content`` is JSON, exactly the text that was signed."""

    id: UUID
    scope: str
    tripped_at: datetime
    outcome: KillOutcome
    content: str
    signature: bytes
    created_at: datetime


class AccountEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a kill switch stands on one account; no standing: its books are not ready."""

    account_id: UUID
    standing: Standing | None
    in_flight: int = 0
    in_doubt: int = 0


def demand_of(record: KillRecord, *, delivery: bool) -> Demand | None:
    """Return what *record* asks of every account that it covers; None when it blocks only, or one source.

    Its version stays the same over restarts and changes when the mode widens.
    """
    kind, _, number = record.scope.partition(":")
    if not record.enabled or record.mode is KillMode.BLOCK or kind not in (GLOBAL, "user", "account", "strategy"):
        return None
    return Demand(
        name=record.scope,
        version=int(record.since.timestamp() * 1000) * 10 + record.mode.rank,
        since=record.since,
        by=f"kill switch {record.scope}",
        flatten=record.mode is KillMode.SQUARE_OFF,
        stays=True,
        strategy_id=UUID(number) if kind == "strategy" else None,
        delivery=delivery,
    )


def state_of(record: KillRecord, ends: Sequence[AccountEnd], *, overdue: bool) -> KillState:
    """Return the state that *record* is in by how its accounts stand; *overdue*: books that are not ready have failed.

    A dead account delays none: the scope has failed once every other one is done.
    """
    standings = [end.standing for end in ends]
    done = [standing for standing in standings if standing is not None and standing.stage is Stage.DONE]
    if len(done) == len(ends):
        return KillState.BLOCKED if record.mode is KillMode.CANCEL else KillState.FLAT_VERIFIED
    at_work = [standing for standing in standings if standing is not None and standing not in done]
    seen = any(standing.not_flat and standing.proofs for standing in at_work)
    if record.state is KillState.FLAT_VERIFIED and not seen:
        return record.state  # nothing speaks against what was proven; after a start it is looked at again
    failed = sum(standing.failed for standing in at_work) + (sum(s is None for s in standings) if overdue else 0)
    if failed and failed + len(done) == len(ends):
        return KillState.FLAT_FAILED
    if record.mode is KillMode.CANCEL:
        return KillState.CANCELLING
    flattening = at_work and all(standing.stage is Stage.FLATTENING for standing in at_work)
    return KillState.FLATTENING if flattening and None not in standings else KillState.CANCELLING


def certify(
    key: bytes,
    record: KillRecord,
    ends: Sequence[AccountEnd],
    outcome: KillOutcome,
    *,
    at: datetime,
    time_to_block_s: float | None,
) -> Certificate:
    """Return the signed record of what the kill switch *record* came to at *at* (UTC)."""
    content = CertificateContent(
        scope=record.scope,
        mode=record.mode,
        outcome=outcome,
        actor=record.actor,
        reason=record.reason,
        tripped_at=record.since,
        created_at=at,
        time_to_block_s=time_to_block_s,
        time_to_flat_s=(None if outcome is KillOutcome.FLAT_FAILED else max((at - record.since).total_seconds(), 0.0)),
        accounts=tuple(map(_account, sorted(ends, key=lambda end: end.account_id))),
    )
    text = msgspec.json.encode(content).decode()
    return Certificate(
        id=uuid5(UUID(int=0), f"kill certificate\x00{text}"),
        scope=record.scope,
        tripped_at=record.since,
        outcome=outcome,
        content=text,
        signature=_mac(key, text),
        created_at=at,
    )


def verify(key: bytes, certificate: Certificate) -> bool:
    """Whether a certificate is ours and unchanged, and its columns say what was signed."""
    if not hmac.compare_digest(_mac(key, certificate.content), certificate.signature):
        return False
    content = msgspec.json.decode(certificate.content, type=CertificateContent)
    return (content.scope, content.outcome) == (certificate.scope, certificate.outcome)


def reasons(ends: Sequence[AccountEnd], names: Mapping[UUID, str]) -> str:
    """Return who is not flat and why, for a person."""
    told = []
    for end in ends:
        name = names.get(end.account_id, str(end.account_id))
        if end.standing is None:
            told.append(f"{name}: the account's books are not ready")
            continue
        if end.standing.stage is Stage.DONE:
            continue
        told += [f"{name}: {_told(left)}" for left in end.standing.not_flat] or [f"{name}: it cannot be verified"]
    return "; ".join(told)


def _told(left: NotFlat) -> str:
    exchange, symbol, product = left.place
    where = f"{exchange}:{symbol} {product} " if symbol else ""
    units = "" if left.quantity is None else f"{left.quantity} units, "
    return f"{where}{units}{left.why}"


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), sha256).digest()


def _account(end: AccountEnd) -> AccountContent:
    standing = end.standing
    left = () if standing is None else standing.not_flat
    if standing is None:
        left = (NotFlat(place=("", "", ""), quantity=None, open_orders=0, why="the account's books are not ready"),)
    return AccountContent(
        account_id=end.account_id,
        flat=standing is not None and standing.stage is Stage.DONE,
        took_s=None if standing is None or standing.took_s is None else round(standing.took_s, 3),
        in_flight=end.in_flight,
        in_doubt=end.in_doubt,
        proofs=() if standing is None else tuple(map(_proof, standing.proofs)),
        not_flat=tuple(
            LeftContent(
                exchange=each.place[0],
                symbol=each.place[1],
                product=each.place[2],
                quantity=each.quantity,
                open_orders=each.open_orders,
                why=each.why,
            )
            for each in left
        ),
    )


def _proof(proof: Proof) -> ProofContent:
    return ProofContent(
        book_at=proof.book_at,
        positions_at=proof.positions_at,
        orders=proof.orders,
        filled_units=proof.filled,
        open_orders=proof.open_orders,
        positions=tuple(
            HeldContent(exchange=row.place[0], symbol=row.place[1], product=row.place[2], quantity=row.quantity)
            for row in proof.positions
        ),
    )

"""What a kill switch came to, as the API shows it: certificates, and why something is not flat."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, KillMode, KillState, ProductType
from engine.domain.flatten import DELIVERY
from engine.domain.kill_sequence import AccountEnd, Certificate, KillOutcome, verify
from engine.domain.killswitch import KillRecord
from engine.http.endpoint import ApiStruct
from engine.http.views.kill import CertificateView, KillScopeView, NotFlatView

_PLACE = tuple[Exchange, str, ProductType]


class FullCertificateView(ApiStruct, frozen=True, kw_only=True):
    """A certificate with what was signed.

    ``content`` is the JSON text over which ``signature`` (HMAC-SHA256, hexadecimal, by a key derived from the
    engine's master key) was made: per account the two reads that prove it flat, or who is not flat and why.
    ``valid`` is false for one that was changed or was not made by this engine.
    """

    id: UUID
    scope: str
    tripped_at: datetime
    outcome: KillOutcome
    created_at: datetime
    content: str
    signature: str
    valid: bool


def full_view(certificate: Certificate, key: bytes) -> FullCertificateView:
    """Return a certificate whole, verified with *key*."""
    return FullCertificateView(
        id=certificate.id,
        scope=certificate.scope,
        tripped_at=certificate.tripped_at,
        outcome=certificate.outcome,
        created_at=certificate.created_at,
        content=certificate.content,
        signature=certificate.signature.hex(),
        valid=verify(key, certificate),
    )


def short_view(certificate: Certificate | None) -> CertificateView | None:
    """Return what the status says of a certificate."""
    if certificate is None:
        return None
    content = msgspec.json.decode(certificate.content)
    return CertificateView(
        id=certificate.id,
        outcome=certificate.outcome,
        created_at=certificate.created_at,
        time_to_block_s=content["timeToBlockS"],
        time_to_flat_s=content["timeToFlatS"],
    )


def with_sequence(
    view: KillScopeView,
    record: KillRecord | None,
    ends: Iterable[AccountEnd],
    certificate: Certificate | None,
    *,
    delivery: bool,
) -> KillScopeView:
    """Return *view* with what the flattening of its scope knows: reasons, what only the broker shows, the certificate.

    Shares held for delivery count only where flattening takes them in (*delivery*).
    """
    if record is None or not record.enabled or record.mode is KillMode.BLOCK:
        return view
    left = {(n.account_id, n.exchange, n.symbol, n.product_type): n for n in view.not_flat}
    for key, row in list(left.items()):
        if row.product_type in DELIVERY and not delivery and not row.open_orders and not row.resting_gtts:
            del left[key]
    for end in ends:
        for found in () if end.standing is None else end.standing.not_flat:
            place = _place(found.place)
            if place is None:
                continue
            row = left.get((end.account_id, *place)) or NotFlatView(
                account_id=end.account_id,
                exchange=place[0],
                symbol=place[1],
                product_type=place[2],
                quantity=found.quantity or 0,
                open_orders=found.open_orders,
                resting_gtts=0,
            )
            left[end.account_id, *place] = msgspec.structs.replace(row, why=found.why)
    is_proven = record.mode is KillMode.CANCEL or record.state is KillState.FLAT_VERIFIED
    current = certificate if certificate is not None and certificate.tripped_at == record.since else None
    return msgspec.structs.replace(
        view,
        not_flat=tuple(left[key] for key in sorted(left)),
        flat=not left and is_proven,
        certificate=short_view(current),
    )


def _place(place: tuple[str, str, str]) -> Any:
    try:
        return msgspec.convert(place, _PLACE)
    except msgspec.ValidationError:
        return None

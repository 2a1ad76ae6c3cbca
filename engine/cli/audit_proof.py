"""The whole proof of the audit log: its chain, and the files of checkpoints that stand beside it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from engine.domain.audit import GENESIS, verify
from engine.domain.checkpoints import Checkpoint, Claim, Comparison, check_claims, claim_of, read_files
from engine.security.checkpoint_book import checkpoint_files, is_signed_by, place_of
from engine.store.audit_pages import last_seq, page
from engine.store.database import Database


class Proof(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was proved: ``first_broken`` is the first record that cannot be trusted, ``problems`` say what is wrong."""

    ok: bool
    records: int
    first_broken: int | None
    checkpoints: int
    public_key: str | None
    problems: list[str]


async def prove(
    database: Database,
    folder: Path,
    public_key: str | None,
    advance: Callable[[int, int], None] = lambda _done, _of: None,
) -> Proof:
    """Prove the log of *database* against the checkpoints in *folder*; *advance* hears how far it is.

    Raises StoreUnavailable, OSError.
    """
    # before the log: what is signed meanwhile is longer than what is read
    checkpoints, problems = await trio.to_thread.run_sync(_read, folder, public_key)
    comparison = Comparison(checkpoints)
    length = await database.run(last_seq)
    claims: list[Claim] = []
    count, prev, broken = 0, GENESIS, None
    while broken is None:
        after = count
        records = await database.run(lambda c: page(c, after_seq=after), timeout_s=60)  # noqa: B023
        if not records:
            break
        broken = await trio.to_thread.run_sync(lambda: verify(records, prev=prev, first_seq=after + 1))  # noqa: B023
        for record in records:
            if broken is not None and record.seq >= broken:
                break
            comparison.see(record.seq, record.hash)
            if (claim := claim_of(record.action, record.content)) is not None:
                claims.append(claim)
        count += len(records)
        advance(count, max(count, length))
        prev = records[-1].hash
    if broken is None:
        found = comparison.end()
        broken = found.first_broken
        problems += found.problems
        # what was written meanwhile may be claimed meanwhile
        later, _ = await trio.to_thread.run_sync(_read, folder, public_key)
        problems += check_claims(claims, later, place=place_of(folder))
    return Proof(
        ok=broken is None and not problems,
        records=count,
        first_broken=broken,
        checkpoints=len(checkpoints),
        public_key=public_key,
        problems=problems,
    )


def _read(folder: Path, public_key: str | None) -> tuple[list[Checkpoint], list[str]]:
    files = [(path.name, path.read_bytes()) for path in checkpoint_files(folder)]
    if files and public_key is None:
        return [], ["there are checkpoints, but no key to prove them with: give --public-key"]
    return read_files(files, lambda checkpoint: is_signed_by(public_key or "", checkpoint))

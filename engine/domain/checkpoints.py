"""Checkpoints of the audit chain: what proves that its tail was not rewritten or cut off (SEC-081, SEC-085).

A chain inside one database proves only that no part of it was rewritten and the rest left. A checkpoint is a signed
"so many records, and this is the hash of the last", kept outside the database in files of a day each. The files are a
chain of their own: every line has a number and names the line before it, so that a file that is gone shows. How
far the files had come stands in the audit log now and then (a `Claim`), so that files cut short show as well.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

NO_LINE = bytes(32).hex()
"""What the first line of a series names as the line before it."""

CLAIM_ACTIONS = frozenset({"ENGINE_STARTED", "ENGINE_STOPPING", "AUDIT_CHECKPOINTS", "AUDIT_DAY_CLOSED"})
CLAIM_KEY = "checkpoints"

_DOMAIN = b"engine.audit.checkpoint.v1\x00"

Kind = Literal["start", "interval", "day", "stop"]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One line: ``size`` records, ``head`` the hash of the last; ``previous`` is the line before; hashes are hex.

    ``day`` is the trading day whose file it stands in, ``at`` the instant in UTC, both ISO 8601.
    """

    series: str
    number: int
    kind: Kind
    day: str
    at: str
    size: int
    head: str
    previous: str
    signature: str = ""

    @property
    def signed(self) -> bytes:
        """What is signed: every field with its length in front, so that no two checkpoints share their bytes."""
        fields = (
            self.series,
            str(self.number),
            self.kind,
            self.day,
            self.at,
            str(self.size),
            self.head,
            self.previous,
        )
        parts = [field.encode("utf-8", "surrogatepass") for field in fields]
        return _DOMAIN + b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    @property
    def line(self) -> bytes:
        """The line as it stands in the file, without its end."""
        return msgspec.json.encode(self)

    @property
    def digest(self) -> str:
        """The SHA-256 of the line, in hex."""
        return sha256(self.line).hexdigest()


class Claim(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the audit log says of the files: how far the series of ``place`` had come, and who signs it."""

    series: str
    number: int
    digest: str
    place: str
    public_key: str


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing: the first record that cannot be trusted (None: all can), and what is wrong, in words."""

    first_broken: int | None
    problems: list[str]


def read_files(
    files: Sequence[tuple[str, bytes]], is_signed: Callable[[Checkpoint], bool]
) -> tuple[list[Checkpoint], list[str]]:
    """Return the good checkpoints of *files*, names and contents by day, and what is wrong with the files.

    The end of a last line that a crash cut short is no fault.
    """
    found: list[Checkpoint] = []
    problems: list[str] = []
    last: Checkpoint | None = None
    for name, content in files:
        *lines, rest = content.split(b"\n")
        if rest and name != files[-1][0]:
            problems.append(f"{name}: its last line is cut short")
        for at, line in enumerate(lines, 1):
            try:
                checkpoint = msgspec.json.decode(line, type=Checkpoint)
            except (msgspec.MsgspecError, ValueError):  # the second for what is not UTF-8
                problems.append(f"{name}, line {at}: is damaged")
                continue
            if checkpoint.line != line or not is_signed(checkpoint):
                problems.append(f"{name}, line {at}: bears no signature of this engine's key")
                continue
            if checkpoint.day not in name:
                problems.append(f"{name}, line {at}: is of the file of {checkpoint.day}")
            problems += _gap(last, checkpoint, name)
            last = checkpoint
            found.append(checkpoint)
    return found, problems


def _gap(last: Checkpoint | None, checkpoint: Checkpoint, name: str) -> list[str]:
    expected = 1 if last is None else last.number + 1
    if checkpoint.number > expected:
        after = "" if last is None else f" after the file of {last.day}"
        return [
            f"{name}: checkpoints {expected} to {checkpoint.number - 1} are missing{after}: lines or files were deleted"
        ]
    if last is None:
        return [] if checkpoint.previous == NO_LINE else [f"{name}: the lines before its first were deleted"]
    if checkpoint.number < expected or checkpoint.previous != last.digest or checkpoint.series != last.series:
        return [f"{name}: checkpoint {checkpoint.number} does not follow the one before it"]
    return []


class Comparison:
    """Compares checkpoints with the chain as its records come by, oldest first; keeps none of them."""

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        self._heads: dict[int, list[Checkpoint]] = {}
        for checkpoint in checkpoints:
            self._heads.setdefault(checkpoint.size, []).append(checkpoint)
        self._good = 0
        self._bad: int | None = None
        self._seen = 0
        self._problems: list[str] = []
        for size, same in self._heads.items():
            if len({checkpoint.head for checkpoint in same}) > 1:
                self._problems.append(f"two heads were signed for {size} records: the log was forked")

    def see(self, seq: int, digest: bytes) -> None:
        """Take record *seq* and its hash."""
        self._seen = max(self._seen, seq)
        for checkpoint in self._heads.get(seq, ()):
            if checkpoint.head == digest.hex():
                if self._bad is None:
                    self._good = seq
            elif self._bad is None:
                self._bad = self._good + 1
                self._problems.append(
                    f"record {seq} is not the one of checkpoint {checkpoint.number} of {checkpoint.at}: "
                    f"records from {self._bad} on were rewritten after that"
                )

    def end(self) -> Findings:
        """Return what was found, once the last record has come by."""
        beyond = max(self._heads, default=0)
        if beyond > self._seen:
            (checkpoint, *_) = self._heads[beyond]
            self._problems.append(
                f"the log ends at record {self._seen}, but had {beyond} at checkpoint {checkpoint.number} of "
                f"{checkpoint.at}: its tail was cut off"
            )
            self._bad = self._seen + 1 if self._bad is None else self._bad
        return Findings(first_broken=self._bad, problems=self._problems)


def check_claims(claims: Sequence[Claim], checkpoints: Sequence[Checkpoint], *, place: str) -> list[str]:
    """Return what the audit log knows of the files at *place* that they do not show any more."""
    problems: list[str] = []
    series = checkpoints[-1].series if checkpoints else None
    lines: Mapping[int, str] = {checkpoint.number: checkpoint.digest for checkpoint in checkpoints}
    told: set[str] = set()
    for claim in claims:
        if claim.series == series:
            if claim.number > max(lines, default=0):
                problems.append(
                    f"the checkpoints end at {max(lines, default=0)}, the audit log knows of {claim.number}: "
                    "lines or files were deleted"
                )
                break
            if claim.number and lines.get(claim.number, claim.digest) != claim.digest:
                problems.append(f"checkpoint {claim.number} is another than the one that the audit log names")
        elif claim.place == place and claim.number and claim.series not in told:
            told.add(claim.series)
            problems.append(
                f"the checkpoints of series {claim.series} were kept here, {claim.number} at least, and are gone"
            )
    return problems


def claim_of(action: str, content: str) -> Claim | None:
    """Return the claim that an audit record holds, None when it holds none."""
    if action not in CLAIM_ACTIONS:
        return None
    try:
        held = msgspec.json.decode(content.encode(), type=dict[str, msgspec.Raw])
        return msgspec.json.decode(held[CLAIM_KEY], type=Claim)
    except (KeyError, ValueError, msgspec.MsgspecError):
        return None

"""Checkpoints of the audit log: every way to rewrite, cut or lose what they prove is named (SEC-080, 081, 085)."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.actors.checkpoint_keeper import CheckpointKeeper
from engine.domain.checkpoints import (
    CLAIM_KEY,
    Checkpoint,
    Claim,
    Comparison,
    check_claims,
    claim_of,
    read_files,
)
from engine.security.checkpoint_book import CheckpointBook, checkpoint_files, is_signed_by, public_key_of

SEED, OTHER = b"s" * 32, b"o" * 32
PUBLIC = public_key_of(SEED)
DAYS = [date(2026, 11, day) for day in (23, 24, 25)]
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def hash_of(seq: int, fork: str = "") -> bytes:
    return sha256(f"{fork}{seq}".encode()).digest()


def book(folder: Path, seed: bytes = SEED) -> CheckpointBook:
    made = CheckpointBook(folder, seed)
    made.open()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three days of two checkpoints, the last at 60 records."""
    written = book(tmp_path / "audit")
    for number, day in enumerate(DAYS):
        written.append("interval", day=day, at=NOW, size=number * 20 + 10, head=hash_of(number * 20 + 10))
        written.append("day", day=day, at=NOW, size=number * 20 + 20, head=hash_of(number * 20 + 20))
    return tmp_path / "audit"


def read(folder: Path, public_key: str = PUBLIC) -> tuple[list[Checkpoint], list[str]]:
    files = [(path.name, path.read_bytes()) for path in checkpoint_files(folder)]
    return read_files(files, lambda checkpoint: is_signed_by(public_key, checkpoint))


def compare(
    checkpoints: list[Checkpoint], *, records: int = 60, digest: Callable[[int], bytes] = hash_of
) -> tuple[int | None, list[str]]:
    comparison = Comparison(checkpoints)
    for seq in range(1, records + 1):
        comparison.see(seq, digest(seq))
    found = comparison.end()
    return found.first_broken, found.problems


def test_whole_files_agree_with_the_log(folder: Path) -> None:
    checkpoints, problems = read(folder)
    assert (len(checkpoints), problems) == (6, [])
    assert compare(checkpoints) == (None, [])
    assert compare(checkpoints, records=70) == (None, [])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert check_claims([book(folder).claim], checkpoints, place="elsewhere") == []


def test_sec_081_rewritten_tail_with_new_hashes_is_found(folder: Path) -> None:
    checkpoints, _ = read(folder)
    broken, problems = compare(checkpoints, digest=lambda seq: hash_of(seq, "" if seq < 45 else "mine"))
    assert broken == 41
    assert len(problems) == 1
    assert "records from 41 on were rewritten" in problems[0]


def test_sec_081_tail_that_was_cut_off_is_found(folder: Path) -> None:
    checkpoints, _ = read(folder)
    broken, problems = compare(checkpoints, records=47)
    assert broken == 48
    assert problems == [
        f"the log ends at record 47, but had 60 at checkpoint 6 of {checkpoints[-1].at}: its tail was cut off"
    ]
    assert compare(checkpoints, records=0)[0] == 1


def test_sec_081_two_heads_for_one_size_are_a_fork(folder: Path) -> None:
    book(folder).append("interval", day=DAYS[2], at=NOW, size=60, head=hash_of(60, "other"))
    checkpoints, problems = read(folder)
    assert problems == []
    broken, problems = compare(checkpoints)
    assert broken == 61
    assert any("two heads were signed for 60 records" in problem for problem in problems)


@pytest.mark.parametrize("day", DAYS)
def test_sec_085_day_file_that_was_deleted_is_named(folder: Path, day: date) -> None:
    claim = book(folder).claim
    (folder / f"checkpoints-{day}.jsonl").unlink()
    checkpoints, problems = read(folder)
    problems += check_claims([claim], checkpoints, place=claim.place)
    assert len(problems) == 1
    assert "deleted" in problems[0]


def test_sec_085_all_files_deleted_is_named_where_they_were_kept_and_nowhere_else(folder: Path) -> None:
    claim = book(folder).claim
    for path in folder.iterdir():
        path.unlink()
    assert "are gone" in check_claims([claim], [], place=claim.place)[0]
    assert check_claims([claim], [], place="another") == []
    begun_anew = book(folder).append("start", day=DAYS[2], at=NOW, size=60, head=hash_of(60))
    assert "are gone" in check_claims([claim, claim], [begun_anew], place=claim.place)[0]


def test_line_that_was_taken_out_changed_or_signed_by_another_is_found(folder: Path) -> None:
    path = folder / f"checkpoints-{DAYS[1]}.jsonl"
    whole = path.read_bytes()
    first, second = whole.splitlines(keepends=True)
    for attack, words in (
        (second, "are missing"),
        (second + first, "are missing"),
        (first + first + second, "does not follow"),
        (whole.replace(b'"size":30', b'"size":31'), "no signature"),
        (whole.replace(b"{", b"{ ", 1), "no signature"),
        (b"nonsense\n" + whole, "damaged"),
        (whole[:-10], "cut short"),
    ):
        path.write_bytes(attack)
        assert any(words in problem for problem in read(folder)[1]), attack
    path.write_bytes(whole)
    assert read(folder)[1] == []
    assert len(read(folder, public_key_of(OTHER))[1]) == 6
    assert len(read(folder, "not hex")[1]) == 6


@given(at=st.integers(0, 10_000), mask=st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_any_byte_flipped_in_a_line_is_found(at: int, mask: int) -> None:
    checkpoint = Checkpoint(
        series="s", number=1, kind="start", day="2026-11-23", at="x", size=5, head="ab", previous="00" * 32
    )
    key = CheckpointBook(Path("unused"), SEED)._key
    signed = msgspec.structs.replace(checkpoint, signature=key.sign(checkpoint.signed).hex())
    line = bytearray(signed.line)
    line[at % len(line)] ^= mask
    found, problems = read_files(
        [("checkpoints-2026-11-23.jsonl", bytes(line) + b"\n")], lambda read: is_signed_by(PUBLIC, read)
    )
    # hex digits may change their case and mean the same; the line is then not the one that was written
    assert problems or found == []


FIELDS = st.text(max_size=6)


@given(a=st.tuples(*[FIELDS] * 4), b=st.tuples(*[FIELDS] * 4))
@settings(max_examples=200, deadline=None)
def test_sec_080_fields_of_a_checkpoint_cannot_be_shifted(a: tuple[str, ...], b: tuple[str, ...]) -> None:
    def signed(fields: tuple[str, ...]) -> bytes:
        series, day, at, head = fields
        return Checkpoint(series=series, number=1, kind="day", day=day, at=at, size=1, head=head, previous="p").signed

    assert (signed(a) == signed(b)) == (a == b)
    assert signed(a).startswith(b"engine.audit.checkpoint.v1\0")


def test_line_cut_short_by_a_crash_is_taken_off_and_the_series_goes_on(folder: Path) -> None:
    path = folder / f"checkpoints-{DAYS[2]}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"series":"half')
    assert read(folder)[1] == []
    book(folder).append("start", day=DAYS[2], at=NOW, size=61, head=hash_of(61))
    checkpoints, problems = read(folder)
    assert (len(checkpoints), problems) == (7, [])


def test_claims_are_read_from_the_records_that_hold_them(folder: Path) -> None:
    claim = book(folder).claim
    content = msgspec.json.encode({"mode": "paper", CLAIM_KEY: claim}).decode()
    assert claim_of("ENGINE_STARTED", content) == claim
    assert claim_of("ENGINE_STARTED", '{"mode":"paper"}') is None
    assert claim_of("LOGIN", content) is None
    assert isinstance(claim, Claim)
    assert claim.public_key == PUBLIC
    checkpoints, _ = read(folder)
    later = msgspec.structs.replace(claim, number=9)
    assert "knows of 9" in check_claims([later], checkpoints, place="x")[0]
    other = msgspec.structs.replace(claim, digest="00" * 32)
    assert "another than the one" in check_claims([other], checkpoints, place="x")[0]


async def test_a_database_older_than_what_was_signed_is_known(folder: Path) -> None:
    keeper = CheckpointKeeper(CheckpointBook(folder, SEED), ledger=None, clock=None)  # type: ignore[arg-type]
    assert not keeper.is_ahead_of(0)
    await keeper.open()
    assert keeper.is_ahead_of(59)
    assert not keeper.is_ahead_of(60)

"""One target in a process of its own: ``python -m tests.fuzz.alone NAME SECONDS OUT``."""

import hashlib
import importlib.util
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

_GUIDED = importlib.util.find_spec("atheris") is not None
_LONGEST = 4096


def mutated(random: Random, seeds: tuple[bytes, ...], words: tuple[bytes, ...]) -> bytes:
    """Return a seed with one to eight injuries: bytes changed, parts cut out, doubled, put in or taken from another."""
    found = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, 8)):
        at = random.randint(0, len(found))
        upto = min(len(found), at + random.randint(1, 24))
        match random.randint(0, 6):
            case 0:
                found[at:upto] = random.randbytes(random.randint(1, 8))
            case 1:
                del found[at:upto]
            case 2:
                found[at:at] = found[at:upto] * random.randint(1, 4)
            case 3 if words:
                found[at:at] = random.choice(words)
            case 4 if at < len(found):
                found[at] ^= 1 << random.randint(0, 7)
            case 5:
                other = random.choice(seeds)
                begin = random.randint(0, len(other))
                found[at:upto] = other[begin : begin + random.randint(1, 40)]
            case _:
                found[at:at] = random.choice((b"\r\n", b"\x00", b"9" * 20, b"-", b'"', b"\xff", b"[[[[", b"e99"))
    return bytes(found[:_LONGEST])


def by_chance(run: Callable[[bytes], None], seeds: tuple[bytes, ...], words: tuple[bytes, ...], seconds: float) -> int:
    """Run mutated seeds for *seconds*; return how many. A finding is raised with its input in ``__notes__``."""
    random, until, done = Random(0), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        octets = mutated(random, seeds, words)
        try:
            run(octets)
        except Exception as error:
            error.add_note(octets.hex())
            raise
        done += 1
    return done


def _one(name: str, seconds: float, out: Path) -> int:
    if not _GUIDED:
        from tests.fuzz.targets import TARGETS

        target = TARGETS[name]
        try:
            done = by_chance(target.run, target.seeds, target.words, seconds)
        except Exception as error:
            traceback.print_exc()
            octets = bytes.fromhex(error.__notes__[-1])
            path = out / f"fuzz-{name}-{hashlib.sha256(octets).hexdigest()[:12]}.bin"
            path.write_bytes(octets)
            print(f"{name}: FOUND, kept in {path}", flush=True)
            return 1
        print(f"{name}: {done} inputs by chance, nothing found", flush=True)
        return 0
    return _guided(name, seconds, out)


def _guided(name: str, seconds: float, out: Path) -> int:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["engine.signals", "engine.http", "engine.broker", "h11"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        for number, seed in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        words = corpus.with_suffix(".dict")
        words.write_text("".join('"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n' for word in target.words))
        options = [
            f"-max_total_time={max(1, int(seconds))}",
            f"-max_len={_LONGEST}",
            "-timeout=5",
            "-rss_limit_mb=2048",
        ]
        options += [f"-artifact_prefix={out}/fuzz-{name}-", "-print_final_stats=1"]
        if target.words:
            options.append(f"-dict={words}")
        atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
        try:
            atheris.Fuzz()  # ends the process
        finally:
            words.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(_one(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))

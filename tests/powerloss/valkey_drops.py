"""A Valkey on the lossy disk: what it said it had, and what it has after the power cut."""

import random
import threading
from dataclasses import dataclass

import redis

from tests.powerloss.lossy import LossyDisk
from tests.support.valkey import OwnValkey

_WRITERS = 4
_STREAM = "s"


@dataclass(frozen=True)
class Drop:
    """One power cut: entries that a client was told of, those of them that are gone, and all that is there."""

    acked: int
    lost: int
    found: int
    forgotten_bytes: int


def drop_once(disk: LossyDisk, *, policy: str, rng: random.Random, longest_s: float = 0.4) -> Drop:
    """Append until a random instant of the next *longest_s*, cut the power, start again and count.

    The disk is not mounted before and after, and keeps its files from drop to drop.
    """
    disk.mount()
    folder = disk.path / "valkey"
    folder.mkdir(exist_ok=True)
    # rewriting the file while entries arrive is part of the promise
    rewrites = {"auto_aof_rewrite_min_size": "32kb"} if rng.random() < 0.5 else {}
    valkey = OwnValkey(folder, appendfsync=policy, **rewrites).start()
    acked: list[bytes] = []
    answering = threading.Event()

    def write() -> None:
        with valkey.client() as client:
            try:
                while True:
                    acked.append(client.xadd(_STREAM, {"e": b"x" * 300}))
                    answering.set()
            except redis.exceptions.RedisError:
                return

    writers = [threading.Thread(target=write) for _ in range(_WRITERS)]
    for writer in writers:
        writer.start()
    assert answering.wait(10)
    threading.Event().wait(rng.random() * longest_s)
    forgotten = disk.cut([valkey.pid], seed=rng.choice([None, rng.getrandbits(32)]))
    valkey.kill()
    for writer in writers:
        writer.join(10)
    disk.mount()
    with OwnValkey(folder, appendfsync=policy) as again, again.client() as client:
        found = {entry for entry, _ in client.xrange(_STREAM)}
        client.xtrim(_STREAM, maxlen=0)
        disk.keep()
        disk.cut([again.pid])
        again.kill()
    return Drop(acked=len(acked), lost=len(set(acked) - found), found=len(found), forgotten_bytes=forgotten["bytes"])


def drops(count: int, *, policy: str, seed: int, longest_s: float = 0.4) -> list[Drop]:
    """Return *count* drops of one server and disk."""
    rng = random.Random(f"{policy} {seed}")
    with LossyDisk() as disk:
        return [drop_once(disk, policy=policy, rng=rng, longest_s=longest_s) for _ in range(count)]

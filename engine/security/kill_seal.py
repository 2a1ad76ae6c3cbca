"""Proof of who wrote a kill record: an HMAC-SHA256 over everything in it, under a key derived from the master key.

Whoever can write to a store must not be able to let trading go on. A record without a good seal is
therefore not believed when it arms; when it blocks it is, for stopping is the safe direction.
"""

import hashlib
import hmac

import msgspec

from engine.domain.killswitch import KillRecord
from engine.security.keys import derive


class KillSeal:
    """Signs kill records and says which may be believed."""

    def __init__(self, master: bytes) -> None:
        self._key = derive(master, "kill switch")

    def sign(self, record: KillRecord) -> KillRecord:
        """Return *record* with its seal."""
        return msgspec.structs.replace(record, mac=self._mac(record))

    def believes(self, record: KillRecord) -> bool:
        """Whether *record* counts: it blocks, or it bears the seal of this engine's keys."""
        return record.enabled or hmac.compare_digest(record.mac.encode(), self._mac(record).encode())

    def _mac(self, record: KillRecord) -> str:
        body = msgspec.json.encode(msgspec.structs.replace(record, mac=""), order="deterministic")
        return hmac.digest(self._key, body, hashlib.sha256).hex()

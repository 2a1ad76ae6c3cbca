"""What a request proves by its headers, for tests of who may enter."""

import hashlib


class Proofs:
    """Nothing proves anything but the key ``nobody's``; ``listed`` are expected addresses."""

    def __init__(self, *listed: str) -> None:
        self.listed = listed

    def is_session(self, authorization: str, client: str) -> bool:
        """Never."""
        return False

    def is_expected(self, client: str) -> bool:
        """Whether it is listed."""
        return client in self.listed

    def is_source(self, key_hash: bytes) -> bool:
        """Whether it is the one key there is."""
        return key_hash == hashlib.sha256(b"nobody's").digest()

    def is_bot(self, secret: str) -> bool:
        """Never."""
        return False

"""TLS from certificate files: how strict it is, and how renewed files are taken up.

The files belong to another program, certbot for one, which replaces them while the engine runs. A pair
that cannot be used is never taken up: the one in use stays, and the log says why (SEC-059).
"""

import logging
import os
import ssl
import stat
from pathlib import Path

from engine.errors import StartupError

logger = logging.getLogger("engine.http.tls")

# AEAD with forward secrecy only; those of TLS 1.3 are all of that kind and are not chosen here.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MUST_NOT = stat.S_IWGRP | stat.S_IRWXO

Seen = tuple[tuple[int, int, int], ...]


class TlsFiles:
    """The certificate chain at *cert* and its private key at *key*, as they were last found in order.

    Raises StartupError that names the mend when they cannot be used.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        # before the files are read: what is replaced meanwhile looks changed afterwards
        self._seen: Seen | None = self._look()
        self._context = self._load()

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection is to be encrypted with."""
        return self._context

    def reload(self, *, even_unchanged: bool = False) -> bool:
        """Take up files that have changed since they were last looked at; tell whether there were usable ones."""
        seen = self._look()
        if seen is None or (seen == self._seen and not even_unchanged):
            return False
        self._seen = seen
        try:
            self._context = self._load()
        except StartupError as error:
            logger.error("the certificate in use stays: %s", error)
            return False
        logger.info("took up the certificate in %s", self._cert)
        return True

    def _look(self) -> Seen | None:
        try:
            found = [path.stat() for path in (self._cert, self._key)]
        except OSError:
            return None  # between two files of a renewal, or gone: the next look tells
        return tuple((item.st_ino, item.st_size, item.st_mtime_ns) for item in found)

    def _load(self) -> ssl.SSLContext:
        _check_private(self._key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        # no HTTP/2, not even offered (SEC-058)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # a key that wants a passphrase is refused: asking at the terminal would hold up the start for ever
            context.load_cert_chain(self._cert, self._key, password=_no_passphrase)
        except ssl.SSLError as error:
            why = (error.reason or "").replace("_", " ").lower() or "no certificate and key in PEM form"
            raise StartupError(f"[server] tls_cert {self._cert} with tls_key {self._key}: {why}") from None
        except OSError as error:
            raise StartupError(f"[server] tls_cert {self._cert}: {error.strerror or error}") from None
        return context


def _no_passphrase() -> str:
    return ""


def _check_private(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise StartupError(f"[server] tls_key {path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise StartupError(f"[server] tls_key {path} is not a file")
    if status.st_uid not in (os.geteuid(), 0):
        raise StartupError(f"[server] tls_key {path} belongs to another user: chown it to the engine's")
    if stat.S_IMODE(status.st_mode) & _MUST_NOT:
        raise StartupError(f"[server] tls_key {path} can be read by others: chmod 600 {path}")

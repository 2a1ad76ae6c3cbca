"""The tag that finds an order at the broker: 20 characters, unforgeable, one per attempt.

Layout (reliability.md 2.2): ``T`` scheme, 2 deployment, 3 fencing epoch modulo 46,656 in base 36,
13 the first 67 bits of HMAC-SHA256(key, order id and attempt) in base 36, 1 check character
(ISO 7064 MOD 37,36). Kite keeps 20 alphanumeric characters and may not keep their case.
"""

import hmac
from functools import cache
from uuid import UUID

LENGTH = 20

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SCHEME = "T"
_EPOCHS = 36**3
_MAC_BITS = 67
_MAC_CHARS = 13


def make_tag(key: bytes, *, deployment: str, epoch: int, order_id: UUID, attempt: int) -> str:
    """Return the tag of the *attempt*-th sending of an order by the engine that holds *epoch*.

    Raises:
        ValueError: *deployment* is not two of ``0-9A-Z``, the key is empty, or a number is out of range.
    """
    _check_deployment(deployment)
    if not key:
        raise ValueError("the tag key is empty; anybody could forge tags")
    if epoch < 0 or not 0 <= attempt < 2**32:
        raise ValueError(f"epoch {epoch} and attempt {attempt} must not be negative, attempt below 2**32")
    mac = hmac.digest(key, order_id.bytes + attempt.to_bytes(4, "big"), "sha256")
    bits = int.from_bytes(mac[:9], "big") >> (72 - _MAC_BITS)
    body = _SCHEME + deployment + _base36(epoch % _EPOCHS, 3) + _base36(bits, _MAC_CHARS)
    return body + _check_char(body)


def valid(tag: str) -> bool:
    """Return whether *tag* (in any case) has the layout and its check character fits."""
    text = tag.upper()
    return (
        len(tag) == len(text) == LENGTH
        and text[0] == _SCHEME
        and all(letter in _VALUE for letter in text)
        and _check_char(text[:-1]) == text[-1]
    )


def is_ours(tag: str, deployment: str) -> bool:
    """Return whether *tag* was made by the deployment of that name, in whatever epoch."""
    _check_deployment(deployment)
    return valid(tag) and tag[1:3].upper() == deployment


def epoch_of(tag: str) -> int:
    """Return the fencing epoch in a valid tag, modulo 46,656.

    Raises:
        ValueError: the tag is not valid.
    """
    if not valid(tag):
        raise ValueError("not a tag of this scheme")
    return int(tag[3:6], 36)


@cache
def _check_deployment(deployment: str) -> None:
    if len(deployment) != 2 or any(letter not in _VALUE for letter in deployment):
        raise ValueError(f"deployment {deployment!r} must be two characters out of 0-9 and A-Z")


def _base36(number: int, width: int) -> str:
    text = ""
    while number:
        number, pair = divmod(number, len(_PAIRS))
        text = _PAIRS[pair] + text
    return text[-width:].rjust(width, "0")


def _check_char(body: str) -> str:
    product = 36
    for letter in body:
        product = ((product + _VALUE[letter]) % 36 or 36) * 2 % 37
    return _ALPHABET[(37 - product) % 36]

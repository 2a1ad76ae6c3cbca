"""The root key: what order tags, journal entries, kill records and checkpoints are proved with.

All of that must be recognised for ever: an order whose tag is not ours any more would be sent twice, a kill
record that is not believed any more would let trading go on. So the root outlives every rotation: it is the first
master key's value, and from then on is kept wrapped under the key-encryption keys, in the store and, for commands
that work without a store, in ``keys/root.sealed`` of the data directory.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from engine.errors import StartupError
from engine.security import private_files
from engine.security.derivation import derive
from engine.security.wrapping import KEY_ID_BYTES, Kek, KeyName

FILE_NAME = "root.sealed"


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    wraps: dict[str, str]


def root_name(root: bytes) -> KeyName:
    """Return the name of *root*, which may be known to all."""
    return KeyName(key_id=derive(root, "root id")[:KEY_ID_BYTES], purpose="root")


def unwrap_root(key_id: bytes, wraps: Mapping[bytes, bytes], keks: Iterable[Kek]) -> bytes | None:
    """Return the root key out of *wraps*, None when none of *keks* opens one of them."""
    name = KeyName(key_id=key_id, purpose="root")
    for kek in keks:
        root = kek.unwrap(wraps.get(kek.id, b""), name)
        if root is not None and root_name(root) == name:
            return root
    return None


def read_root(folder: Path, keks: Iterable[Kek]) -> bytes | None:
    """Return the root key that *folder* keeps, None when it keeps none. Raises StartupError when it does not open."""
    path = folder / FILE_NAME
    try:
        content = private_files.read(path)
    except FileNotFoundError:
        return None
    try:
        root = root_in(content, keks)
    except ValueError:
        raise StartupError(f"{path} is damaged: put it back from a backup") from None
    if root is None:
        raise StartupError(
            f"{path} does not open with these keys: [security] master_key must be the key that `engine keys rotate` "
            "made last, or master_key_previous the one before it"
        )
    return root


def root_in(content: bytes, keks: Iterable[Kek]) -> bytes | None:
    """Return the root key in *content* of such a file; None when no one of *keks* opens it. Raises ValueError."""
    try:
        held = msgspec.json.decode(content, type=_Content)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    wraps = {bytes.fromhex(kek): base64.b64decode(wrapped) for kek, wrapped in held.wraps.items()}
    return unwrap_root(bytes.fromhex(held.key), wraps, keks)


def sealed_root(folder: Path, root: bytes, keks: Iterable[Kek]) -> bytes:
    """Return *root* as *folder* keeps it now, wrapped under *keks* where it keeps none. Raises StartupError."""
    try:
        return private_files.read(folder / FILE_NAME)
    except FileNotFoundError:
        return _encoded(root, _wraps(root, keks))


def _wraps(root: bytes, keks: Iterable[Kek]) -> dict[str, str]:
    name = root_name(root)
    return {kek.id.hex(): base64.b64encode(kek.wrap(root, name)).decode() for kek in keks}


def _encoded(root: bytes, wraps: dict[str, str]) -> bytes:
    return msgspec.json.encode(_Content(key=root_name(root).key_id.hex(), wraps=wraps)) + b"\n"


def write_root(folder: Path, root: bytes, keks: Iterable[Kek], *, and_no_other: bool = False) -> None:
    """Keep *root* in *folder*, wrapped under *keks*.

    What it is wrapped under there already stays, for another program's key may be among it, unless *and_no_other*.
    Raises StartupError.
    """
    name = root_name(root)
    held = None if and_no_other else _held(folder)
    wraps = {} if held is None or held.key != name.key_id.hex() else dict(held.wraps)
    private_files.make_folder(folder)
    private_files.replace(folder / FILE_NAME, _encoded(root, wraps | _wraps(root, keks)))


def root_is_kept(folder: Path) -> bool:
    """Whether *folder* keeps a root key."""
    return (folder / FILE_NAME).exists()


def wrapped_under(folder: Path) -> frozenset[bytes]:
    """Return the ids of the key-encryption keys that open what *folder* keeps; empty when it keeps nothing."""
    held = _held(folder)
    return frozenset() if held is None else frozenset(bytes.fromhex(kek) for kek in held.wraps)


def _held(folder: Path) -> _Content | None:
    try:
        return msgspec.json.decode(private_files.read(folder / FILE_NAME), type=_Content)
    except (FileNotFoundError, msgspec.MsgspecError, ValueError):
        return None

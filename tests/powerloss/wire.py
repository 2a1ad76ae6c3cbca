"""The FUSE kernel protocol (linux/fuse.h, version 7), as much of it as a file system in memory needs."""

import ctypes
import os
import struct
from enum import IntEnum

from tests.powerloss.disk import Node

HEADER = struct.Struct("<IIQQIIIHH")  # len, opcode, unique, node, uid, gid, pid, extensions, padding
REPLY = struct.Struct("<IiQ")  # len, error, unique
INIT_IN = struct.Struct("<IIII")
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
SETATTR_IN = struct.Struct("<IIQQQQQQIIIIIIII")
MKNOD_IN = struct.Struct("<IIII")
MKDIR_IN = struct.Struct("<II")
RENAME_IN = struct.Struct("<Q")
RENAME2_IN = struct.Struct("<QII")
LINK_IN = struct.Struct("<Q")
READ_IN = struct.Struct("<QQIIQII")
WRITE_IN = struct.Struct("<QQIIQII")
WRITE_OUT = struct.Struct("<II")
FALLOCATE_IN = struct.Struct("<QQQII")
FORGET_IN = struct.Struct("<Q")
BATCH_FORGET_IN = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
OPEN_OUT = struct.Struct("<QII")
STATFS_OUT = struct.Struct("<QQQQQIIII24x")
DIRENT = struct.Struct("<QQII")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTR_OUT = struct.Struct("<QII")

VERSION = (7, 38)
BIG_WRITES = 1 << 5
MAX_WRITE = 128 * 1024
READ_BUFFER = MAX_WRITE + 8192

FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE, FATTR_MTIME = 1, 2, 4, 8, 32
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE = 1

# nobody but this kernel changes anything, so what it knows stays true
_FOR_GOOD_S = 1_000_000

_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Op(IntEnum):
    """Requests of the kernel."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    READ = 15
    WRITE = 16
    STATFS = 17
    FSYNC = 20
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45


UNANSWERED = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT, Op.DESTROY})


def attributes(node: Node) -> bytes:
    """Return the stat of *node*."""
    seconds, rest = divmod(node.mtime_ns, 1_000_000_000)
    return _ATTR.pack(
        node.ino,
        node.size,
        (node.size + 511) // 512,
        *(seconds, seconds, seconds, rest, rest, rest),
        *(node.mode, max(node.links, 1), node.uid, node.gid, node.rdev, 4096, 0),
    )


def attr_out(node: Node) -> bytes:
    """Return the answer to GETATTR."""
    return _ATTR_OUT.pack(_FOR_GOOD_S, 0, 0) + attributes(node)


def entry_out(node: Node) -> bytes:
    """Return the answer to LOOKUP and to all that make a name."""
    return _ENTRY.pack(node.ino, 0, _FOR_GOOD_S, _FOR_GOOD_S, 0, 0) + attributes(node)


def mount(device: int, folder: str) -> None:
    """Mount the file system that is served on *device* at *folder*. Raises OSError."""
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
    options += ",allow_other,default_permissions"
    done = _libc.mount(b"lossy", os.fsencode(folder), b"fuse.lossy", _MS_NOSUID | _MS_NODEV, options.encode())
    if done != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount: {os.strerror(error)}", folder)


def unmount(folder: str) -> bool:
    """Take the file system at *folder* away from the tree, whoever uses it; return whether there was one."""
    return bool(_libc.umount2(os.fsencode(folder), _MNT_DETACH) == 0)

"""The lossy file system as a process: ``python -m tests.powerloss.served FOLDER``.

It answers the kernel on /dev/fuse, and on standard input takes one JSON object a line, each answered by one
on standard output: ``mount``, ``load`` (with ``from``), ``keep`` (let all last), ``freeze`` (the instant of
the power cut: nothing is answered from now on), ``cut`` (the mount goes, and with it what was not synced;
with ``seed`` only a part of it), ``stats``. The end of standard input ends it.
"""

import errno
import json
import os
import random
import select
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.powerloss import wire
from tests.powerloss.disk import Disk, File, Folder, Node
from tests.powerloss.wire import Op

_AT_ONCE = 64


class _Refused(Exception):
    """A request that gets an errno."""


class Files:
    """What each request of the kernel does to a disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.counted: Counter[str] = Counter()
        self._handlers: dict[int, Callable[[Node, tuple[int, int], memoryview], bytes]] = {
            Op.INIT: self._init,
            Op.LOOKUP: self._lookup,
            Op.FORGET: self._forget,
            Op.BATCH_FORGET: self._batch_forget,
            Op.GETATTR: lambda node, _by, _body: wire.attr_out(node),
            Op.SETATTR: self._setattr,
            Op.READLINK: lambda node, _by, _body: node.target,
            Op.SYMLINK: self._symlink,
            Op.MKNOD: self._mknod,
            Op.MKDIR: self._mkdir,
            Op.UNLINK: self._unlink,
            Op.RMDIR: self._rmdir,
            Op.RENAME: self._rename,
            Op.RENAME2: self._rename2,
            Op.LINK: self._link,
            Op.READ: self._read,
            Op.WRITE: self._write,
            Op.STATFS: self._statfs,
            Op.FSYNC: self._fsync,
            Op.FSYNCDIR: self._fsyncdir,
            Op.OPENDIR: lambda _node, _by, _body: wire.OPEN_OUT.pack(0, 0, 0),
            Op.RELEASEDIR: lambda _node, _by, _body: b"",
            Op.READDIR: self._readdir,
            Op.FALLOCATE: self._fallocate,
            Op.INTERRUPT: lambda _node, _by, _body: b"",
            Op.DESTROY: lambda _node, _by, _body: b"",
        }

    def answer(self, request: memoryview) -> bytes | None:
        """Return the reply to one request, None for those that get none."""
        _, op, unique, number, uid, gid, *_ = wire.HEADER.unpack_from(request)
        handler = self._handlers.get(op)
        code, body = 0, b""
        if handler is None:
            # the kernel then does without: open, flush, locks, attributes beyond stat
            code = errno.ENOSYS
        else:
            try:
                node = self.disk.nodes.get(number or self.disk.root.ino)
                if node is None:
                    raise _Refused(errno.ESTALE)
                body = handler(node, (uid, gid), request[wire.HEADER.size :])
            except _Refused as refused:
                code = refused.args[0]
        if op in wire.UNANSWERED:
            return None
        return wire.REPLY.pack(wire.REPLY.size + len(body), -code, unique) + body

    def _init(self, _node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        _, _, readahead, flags = wire.INIT_IN.unpack_from(body)
        major, minor = wire.VERSION
        return wire.INIT_OUT.pack(major, minor, readahead, flags & wire.BIG_WRITES, 64, 48, wire.MAX_WRITE, 1, 0, 0, 0)

    # names

    def _lookup(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        return self._entry(_child(node, _name(body)))

    def _entry(self, node: Node) -> bytes:
        node.lookups += 1
        self.disk.nodes[node.ino] = node
        return wire.entry_out(node)

    def _forget(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        self._let_go(node, *wire.FORGET_IN.unpack_from(body))
        return b""

    def _batch_forget(self, _node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(body)
        for place in range(count):
            number, times = wire.FORGET_ONE.unpack_from(body, wire.BATCH_FORGET_IN.size + place * wire.FORGET_ONE.size)
            if number in self.disk.nodes:
                self._let_go(self.disk.nodes[number], times)
        return b""

    def _let_go(self, node: Node, times: int) -> None:
        node.lookups -= times
        if node.lookups <= 0 and node is not self.disk.root:
            self.disk.nodes.pop(node.ino, None)

    def _symlink(self, node: Node, by: tuple[int, int], body: memoryview) -> bytes:
        name, target, _ = bytes(body).split(b"\0", 2)
        return self._made(node, name, self.disk.make(stat.S_IFLNK | 0o777, *by, target=target))

    def _mknod(self, node: Node, by: tuple[int, int], body: memoryview) -> bytes:
        mode, rdev, _, _ = wire.MKNOD_IN.unpack_from(body)
        name = _name(body[wire.MKNOD_IN.size :])
        return self._made(
            node, name, self.disk.make(mode if stat.S_IFMT(mode) else mode | stat.S_IFREG, *by, rdev=rdev)
        )

    def _mkdir(self, node: Node, by: tuple[int, int], body: memoryview) -> bytes:
        mode, _ = wire.MKDIR_IN.unpack_from(body)
        return self._made(node, _name(body[wire.MKDIR_IN.size :]), self.disk.make(stat.S_IFDIR | mode, *by))

    def _made(self, node: Node, name: bytes, made: Node) -> bytes:
        folder = _folder(node)
        if name in folder.names:
            raise _Refused(errno.EEXIST)
        made.mtime_ns = time.time_ns()
        self.disk.link(folder, name, made)
        return self._entry(made)

    def _unlink(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        name = _name(body)
        _child(node, name)
        self.disk.unlink(_folder(node), name)
        return b""

    def _rmdir(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        name = _name(body)
        if _folder(_child(node, name)).names:
            raise _Refused(errno.ENOTEMPTY)
        self.disk.unlink(_folder(node), name)
        return b""

    def _rename(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        (target,) = wire.RENAME_IN.unpack_from(body)
        return self._move(node, target, 0, body[wire.RENAME_IN.size :])

    def _rename2(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        target, flags, _ = wire.RENAME2_IN.unpack_from(body)
        return self._move(node, target, flags, body[wire.RENAME2_IN.size :])

    def _move(self, node: Node, target: int, flags: int, names: memoryview) -> bytes:
        old, new, _ = bytes(names).split(b"\0", 2)
        source, into, moved = _folder(node), _folder(self.disk.nodes[target]), _child(node, old)
        replaced = into.names.get(new, (0, None))[1]
        if replaced is moved:
            return b""
        if replaced is not None and flags & wire.RENAME_NOREPLACE:
            raise _Refused(errno.EEXIST)
        if isinstance(replaced, Folder) and replaced.names and not flags & wire.RENAME_EXCHANGE:
            raise _Refused(errno.ENOTEMPTY)
        self.disk.unlink(source, old)
        self.disk.link(into, new, moved)
        if replaced is not None and flags & wire.RENAME_EXCHANGE:
            self.disk.link(source, old, replaced)
        return b""

    def _link(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        (number,) = wire.LINK_IN.unpack_from(body)
        return self._made(node, _name(body[wire.LINK_IN.size :]), self.disk.nodes[number])

    def _readdir(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        _, after, room, *_ = wire.READ_IN.unpack_from(body)
        folder = _folder(node)
        listed = [(1, b".", node), (2, b"..", node), *((at, name, child) for name, (at, child) in folder.names.items())]
        answer = bytearray()
        for at, name, child in listed:
            if at <= after:
                continue
            entry = wire.DIRENT.pack(child.ino, at, len(name), stat.S_IFMT(child.mode) >> 12) + name
            entry += bytes(-len(entry) % 8)
            if len(answer) + len(entry) > room:
                break
            answer += entry
        return bytes(answer)

    # bytes

    def _setattr(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        valid, _, _, size, _, _, mtime, _, _, mtime_ns, _, mode, _, uid, gid, _ = wire.SETATTR_IN.unpack_from(body)
        if valid & wire.FATTR_MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if valid & wire.FATTR_UID:
            node.uid = uid
        if valid & wire.FATTR_GID:
            node.gid = gid
        if valid & wire.FATTR_SIZE:
            _file(node).resize(size)
        if valid & wire.FATTR_MTIME:
            node.mtime_ns = mtime * 1_000_000_000 + mtime_ns
        return wire.attr_out(node)

    def _read(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        _, offset, size, *_ = wire.READ_IN.unpack_from(body)
        return bytes(_file(node).content[offset : offset + size])

    def _write(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        _, offset, size, _, _, flags, _ = wire.WRITE_IN.unpack_from(body)
        file = _file(node)
        file.write(offset, body[wire.WRITE_IN.size : wire.WRITE_IN.size + size])
        file.mtime_ns = time.time_ns()
        if flags & os.O_DSYNC:
            file.sync()
            file.keep_names()
        self.counted["writes"] += 1
        return wire.WRITE_OUT.pack(size, 0)

    def _fallocate(self, node: Node, _by: tuple[int, int], body: memoryview) -> bytes:
        _, offset, length, mode, _ = wire.FALLOCATE_IN.unpack_from(body)
        if mode & ~wire.FALLOC_KEEP_SIZE:
            raise _Refused(errno.EOPNOTSUPP)
        file = _file(node)
        if not mode and offset + length > file.size:
            file.resize(offset + length)
        return b""

    def _fsync(self, node: Node, _by: tuple[int, int], _body: memoryview) -> bytes:
        _file(node).sync()
        node.keep_names()
        self.counted["fsyncs"] += 1
        return b""

    def _fsyncdir(self, node: Node, _by: tuple[int, int], _body: memoryview) -> bytes:
        _folder(node).sync()
        node.keep_names()
        self.counted["folder fsyncs"] += 1
        return b""

    def _statfs(self, _node: Node, _by: tuple[int, int], _body: memoryview) -> bytes:
        return wire.STATFS_OUT.pack(1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19, 4096, 255, 4096, 0)


def _name(body: memoryview) -> bytes:
    return bytes(body).split(b"\0", 1)[0]


def _folder(node: Node) -> Folder:
    if not isinstance(node, Folder):
        raise _Refused(errno.ENOTDIR)
    return node


def _file(node: Node) -> File:
    if not isinstance(node, File):
        raise _Refused(errno.EINVAL)
    return node


def _child(node: Node, name: bytes) -> Node:
    found = _folder(node).names.get(name)
    if found is None:
        raise _Refused(errno.ENOENT)
    return found[1]


class Served:
    """The disk at *folder*, its connection to the kernel and the commands."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files = Files(Disk())
        self._device: int | None = None
        self._is_frozen = False
        self._buffer = bytearray(wire.READ_BUFFER)

    def run(self) -> None:
        """Serve until standard input ends."""
        commands = os.fdopen(0, "rb", buffering=0)
        rest = b""
        try:
            while True:
                waited_for = [0] if self._device is None or self._is_frozen else [0, self._device]
                readable, _, _ = select.select(waited_for, [], [])
                if self._device in readable:
                    self._serve_some()
                if 0 in readable:
                    piece = commands.read(65536)
                    if not piece:
                        return
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
        finally:
            self._let_go()

    def _serve_some(self) -> None:
        assert self._device is not None
        for _ in range(_AT_ONCE):
            try:
                size = os.readv(self._device, [self._buffer])
            except BlockingIOError:
                return
            except FileNotFoundError:
                continue  # the one who asked was killed meanwhile
            reply = self._files.answer(memoryview(self._buffer)[:size])
            if reply is None:
                continue
            try:
                os.write(self._device, reply)
            except FileNotFoundError:
                pass  # the one who asked was killed meanwhile

    def _obey(self, command: dict[str, Any]) -> None:
        answer: dict[str, Any] = {}
        try:
            match command["do"]:
                case "mount":
                    self._mount()
                case "load":
                    self._files.disk.load(Path(command["from"]))
                case "keep":
                    self._files.disk.keep_all()
                case "freeze":
                    self._is_frozen = True
                case "cut":
                    self._let_go()
                    rng = None if command.get("seed") is None else random.Random(command["seed"])
                    answer = self._files.disk.cut(rng)
                case "stats":
                    answer = dict(self._files.counted)
                case other:
                    answer = {"error": f"unknown command {other}"}
        except OSError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _mount(self) -> None:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            wire.mount(device, self._folder)
        except OSError:
            os.close(device)
            raise
        self._device, self._is_frozen = device, False

    def _let_go(self) -> None:
        # closing the device first fails every call that still waits for an answer
        if self._device is not None:
            os.close(self._device)
            self._device = None
            wire.unmount(self._folder)


if __name__ == "__main__":
    Served(sys.argv[1]).run()

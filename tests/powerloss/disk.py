"""A disk that forgets: what a file system holds in memory, and what of it would outlast a power cut.

Bytes and size of a file last once the file was fsynced. The names in a folder last once the folder was
fsynced; an fsync of a file also keeps the names that lead to it, as ext4, xfs and btrfs do and PostgreSQL
relies on. Owners and modes always last. A cut forgets everything else, or, with a random source, keeps some
of it as real disks do: sectors of overwritten pages each by itself, of what was appended a prefix, and of
the names all or none.
"""

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

PAGE = 4096
SECTOR = 512


class Node:
    """One file, folder, link or socket; *mode* with the type bits."""

    def __init__(self, ino: int, mode: int, uid: int, gid: int, *, rdev: int = 0, target: bytes = b"") -> None:
        self.ino = ino
        self.mode, self.uid, self.gid, self.rdev = mode, uid, gid, rdev
        self.target = target
        self.lookups = 0
        self.mtime_ns = 0
        self.folders: list[Folder] = []
        self.was_in: set[Folder] = set()
        self.is_renamed = False

    @property
    def links(self) -> int:
        """Names that it has."""
        return len(self.folders)

    def keep_names(self) -> None:
        """Let the names that lead here last."""
        if self.is_renamed:
            for folder in self.was_in:
                folder.keep_names_of(self)
            self.is_renamed = False
        for folder in self.folders:
            folder.keep_names()

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.target)


class File(Node):
    """A regular file: its bytes, and what its pages were when they were last synced."""

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        super().__init__(ino, mode, uid, gid)
        self.content = bytearray()
        self._kept_size = 0
        self._kept_pages: dict[int, bytes] = {}
        self._was_cut = False

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.content)

    @property
    def is_dirty(self) -> bool:
        """Whether a power cut would change it."""
        return bool(self._kept_pages) or len(self.content) != self._kept_size

    def write(self, offset: int, piece: bytes | memoryview) -> None:
        """Put *piece* at *offset*, with zeros before it where the file was shorter."""
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self._remember(offset, offset + len(piece))
        self.content[offset : offset + len(piece)] = piece

    def resize(self, size: int) -> None:
        """Cut the file short, or make it longer with zeros."""
        if size >= len(self.content):
            self.content.extend(bytes(size - len(self.content)))
            return
        if size < self._kept_size:
            self._remember(size, self._kept_size)
            self._was_cut = True
        del self.content[size:]

    def _remember(self, start: int, end: int) -> None:
        for page in range(start // PAGE, (min(end, self._kept_size) + PAGE - 1) // PAGE):
            if page not in self._kept_pages:
                self._kept_pages[page] = bytes(self.content[page * PAGE : min((page + 1) * PAGE, self._kept_size)])

    def sync(self) -> None:
        """Let the content last."""
        self._kept_pages.clear()
        self._kept_size, self._was_cut = len(self.content), False

    def forget(self, rng: random.Random | None) -> int:
        """Lose what was not synced, or with *rng* a part of it; return how many bytes were lost."""
        lost = 0
        if rng is None or (self._was_cut and rng.random() < 0.5):
            lost = sum(map(len, self._kept_pages.values())) + max(0, len(self.content) - self._kept_size)
            del self.content[self._kept_size :]
            self.content.extend(bytes(self._kept_size - len(self.content)))
            for page, kept in self._kept_pages.items():
                self.content[page * PAGE : page * PAGE + len(kept)] = kept
        elif not self._was_cut:
            lost = self._tear(rng)
        self.sync()
        return lost

    def _tear(self, rng: random.Random) -> int:
        lost = 0
        for page, kept in self._kept_pages.items():
            for start in range(0, len(kept), SECTOR):
                if rng.random() < 0.5:
                    piece = kept[start : start + SECTOR]
                    self.content[page * PAGE + start : page * PAGE + start + len(piece)] = piece
                    lost += len(piece)
        if len(self.content) > self._kept_size:
            prefix = rng.randint(self._kept_size, len(self.content))
            lost += len(self.content) - prefix
            del self.content[prefix:]
        return lost


class Folder(Node):
    """A folder: the names it has, and the names it had when it was last synced.

    ``names`` maps a name to its node and to a number that grows, by which a listing goes on where it stopped.
    """

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        super().__init__(ino, mode, uid, gid)
        self.names: dict[bytes, tuple[int, Node]] = {}
        self._kept: dict[bytes, tuple[int, Node]] = {}

    @property
    def is_dirty(self) -> bool:
        """Whether a power cut would change it."""
        return {name: node for name, (_, node) in self.names.items()} != {
            name: node for name, (_, node) in self._kept.items()
        }

    def sync(self) -> None:
        """Let the names last."""
        self._kept = dict(self.names)

    def keep_names_of(self, node: Node) -> None:
        """Let the names of *node* last, and that it lost others."""
        for name in [name for name, (_, kept) in self._kept.items() if kept is node]:
            del self._kept[name]
        self._kept |= {name: entry for name, entry in self.names.items() if entry[1] is node}

    def forget(self) -> int:
        """Lose the names' changes that were not synced; return how many."""
        lost = len(set(self.names.items()) ^ set(self._kept.items()))
        self.names = dict(self._kept)
        return lost

    def known(self) -> Iterator[Node]:
        """Yield what has a name here, or had one when the folder was synced."""
        for _, node in (*self.names.values(), *self._kept.values()):
            yield node


class Disk:
    """A tree of nodes below ``root``; ``nodes`` are those that the kernel holds, by number."""

    def __init__(self) -> None:
        self._numbers = 1
        self._places = 2
        self.root = Folder(1, stat.S_IFDIR | 0o755, os.geteuid(), os.getegid())
        self.nodes: dict[int, Node] = {1: self.root}

    def make(self, mode: int, uid: int, gid: int, *, rdev: int = 0, target: bytes = b"") -> Node:
        """Return a new node that has no name yet."""
        self._numbers += 1
        if stat.S_ISDIR(mode):
            return Folder(self._numbers, mode, uid, gid)
        if stat.S_ISREG(mode):
            return File(self._numbers, mode, uid, gid)
        return Node(self._numbers, mode, uid, gid, rdev=rdev, target=target)

    def link(self, folder: Folder, name: bytes, node: Node) -> None:
        """Give *node* a name in place of whatever had it."""
        self.unlink(folder, name)
        self._places += 1
        folder.names[name] = (self._places, node)
        node.folders.append(folder)
        node.was_in.add(folder)
        node.is_renamed = True

    def unlink(self, folder: Folder, name: bytes) -> None:
        """Take a name away, if it is there."""
        found = folder.names.pop(name, None)
        if found is not None:
            found[1].folders.remove(folder)
            found[1].is_renamed = True

    def keep_all(self) -> None:
        """Let everything last, as sync(1) does."""
        for node in self._walk():
            if isinstance(node, File | Folder):
                node.sync()

    def cut(self, rng: random.Random | None = None) -> dict[str, int]:
        """Lose what was not synced (with *rng*: a part of it); return what that was."""
        before = list(self._walk())
        keeps_names = rng is not None and rng.random() < 0.5
        names = 0
        for node in before:
            if isinstance(node, Folder):
                if not keeps_names:
                    names += node.forget()
                node.sync()
        files = size = 0
        for node in {*before, *self._walk()}:
            if isinstance(node, File) and node.is_dirty:
                files += 1
                size += node.forget(rng)
        for node in before:
            node.lookups = 0
            node.folders = []
        for node in self._walk():
            if isinstance(node, Folder):
                for _, child in node.names.values():
                    child.folders.append(node)
        self.nodes = {1: self.root}
        return {"files": files, "bytes": size, "names": names}

    def _walk(self) -> Iterator[Node]:
        """Yield every node that has a name now or had one when its folder was synced."""
        seen: set[int] = set()
        stack: list[Node] = [self.root]
        while stack:
            node = stack.pop()
            if node.ino in seen:
                continue
            seen.add(node.ino)
            yield node
            if isinstance(node, Folder):
                stack += node.known()

    def load(self, source: Path) -> None:
        """Put a copy of the tree *source* into the root, all of it lasting; sockets are left out."""
        self._load(source, self.root)
        self.keep_all()

    def _load(self, source: Path, into: Folder) -> None:
        for entry in os.scandir(source):
            found = entry.stat(follow_symlinks=False)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                continue
            target = os.fsencode(os.readlink(entry.path)) if entry.is_symlink() else b""
            node = self.make(found.st_mode, found.st_uid, found.st_gid, target=target)
            node.mtime_ns = found.st_mtime_ns
            self.link(into, os.fsencode(entry.name), node)
            if isinstance(node, Folder):
                self._load(Path(entry.path), node)
            elif isinstance(node, File):
                node.write(0, Path(entry.path).read_bytes())

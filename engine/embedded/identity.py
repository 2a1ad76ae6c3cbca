"""Who the servers run as, and directories that only they can enter.

A normal user runs them as itself. Root must not: PostgreSQL refuses it. Root then takes the user that
already owns the cluster, else ``postgres``, else ``nobody``; no user is ever created.
"""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from engine.errors import StartupError

_SERVICE_USERS = ("postgres", "nobody")
MEND = "run the engine as a normal user, or set [database] url and [redis] url to servers of your own"


@dataclass(frozen=True, kw_only=True)
class ServerUser:
    """The unprivileged user that takes over from root. *service* users are never people."""

    uid: int
    gid: int
    service: bool


def server_user(cluster: Path) -> ServerUser | None:
    """Return the user for the servers of *cluster*, or None when they run as the engine's own user.

    Raises StartupError when root finds no user to hand over to.
    """
    if os.geteuid() != 0:
        return None
    try:
        owner = os.lstat(cluster).st_uid
        if owner != 0:
            return _from_entry(pwd.getpwuid(owner))
    except (FileNotFoundError, KeyError):
        pass  # no cluster yet, or its owner is unknown here: choose as on the first start
    for name in _SERVICE_USERS:
        try:
            return _from_entry(pwd.getpwnam(name))
        except KeyError:
            continue
    raise StartupError(f"PostgreSQL does not run as root and there is no user {' or '.join(_SERVICE_USERS)}: {MEND}")


def _from_entry(entry: pwd.struct_passwd) -> ServerUser:
    return ServerUser(uid=entry.pw_uid, gid=entry.pw_gid, service=entry.pw_name in _SERVICE_USERS)


def private_directory(path: Path, user: ServerUser | None, *, adopt: bool = True) -> None:
    """Make *path* a real directory of mode 0700 that belongs to the servers' user.

    With *adopt*, root takes over a tree of another owner (a copy made by root, say); without it, as in
    a folder that everyone may write to, such a tree is a squatter. Raises StartupError when *path*
    is a link, is not a directory or belongs to someone else.
    """
    owner = os.geteuid() if user is None else user.uid
    created = True
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        created = False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StartupError(
            f"{path} must be a directory that the engine can open ({error.strerror}): move it away, or {MEND}"
        ) from error
    try:
        found = os.fstat(handle)
        if found.st_uid != owner:
            if user is None or not (created or adopt or found.st_uid == 0):
                raise StartupError(
                    f"{path} belongs to uid {found.st_uid}, not to uid {owner}: run the engine as its owner,"
                    " or give it another --data-dir (for a socket folder: another TMPDIR)"
                )
            _hand_over(handle, user)
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(handle, 0o700)
    finally:
        os.close(handle)


def _hand_over(handle: int, user: ServerUser) -> None:
    for _, directories, files, folder in os.fwalk(".", dir_fd=handle):
        for name in (*directories, *files):
            os.chown(name, user.uid, user.gid, dir_fd=folder, follow_symlinks=False)
    os.fchown(handle, user.uid, user.gid)

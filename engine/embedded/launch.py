"""The last step before a server binary: give up root, tie its life to the engine's, exec.

Started by path with ``python -I -S``, so it must import nothing but the standard library. Its one
argument is JSON: ``argv``, ``parent`` (pid), ``death_signal``, ``programs`` the server has to execute,
``paths`` it has to read, and ``uid``, ``gid``, ``may_keep_capability`` when root has to be given up.

PostgreSQL refuses to run as root, yet the data directory or the virtual environment of root is often
below a folder that nobody else may enter. Opening those folders to everyone is not ours to do, so when,
and only when, a path is out of reach, the server keeps the one capability that lets it pass:
CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where that is not granted or not enough.
"""

import ctypes
import json
import os
import sys
from typing import Any, NoReturn

LAUNCH_FAILED = 125

_ALL_IN_REACH = 255
_CANNOT_BECOME = 254

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilitySets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"launch: {message}\n")
    sys.stderr.flush()
    os._exit(LAUNCH_FAILED)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def _keep_only(capability: int) -> None:
    bit = 1 << capability
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    sets = (_CapabilitySets * 2)(_CapabilitySets(bit, bit, bit), _CapabilitySets(0, 0, 0))
    if _libc.capset(ctypes.byref(header), sets) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _become(uid: int, gid: int, capability: int | None) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    if capability is not None:
        # keeps the capabilities over the change of uid, and makes access(2), which initdb asks, heed them
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setresuid(uid, uid, uid)
    if capability is not None:
        _keep_only(capability)


def _out_of_reach(order: dict[str, Any]) -> int | None:
    programs = [order["argv"][0], *order["programs"]]
    for index, path in enumerate([*programs, *order["paths"]]):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError:
            return index
        if index < len(programs) and not os.access(path, os.X_OK):
            return index
    return None


def _try_out(order: dict[str, Any], capability: int | None) -> int:
    """Return what a child that becomes the user finds: _ALL_IN_REACH, _CANNOT_BECOME or the index of a path."""
    child = os.fork()
    if child == 0:
        verdict = _CANNOT_BECOME
        try:
            _become(order["uid"], order["gid"], capability)
            blocked = _out_of_reach(order)
            verdict = _ALL_IN_REACH if blocked is None else min(blocked, _CANNOT_BECOME - 1)
        finally:
            os._exit(verdict)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _give_up_root(order: dict[str, Any]) -> None:
    first = _try_out(order, None)
    verdict, capability = first, None
    if verdict not in (_ALL_IN_REACH, _CANNOT_BECOME) and order["may_keep_capability"]:
        for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
            verdict = _try_out(order, capability)
            if verdict == _ALL_IN_REACH:
                break
    if verdict == _ALL_IN_REACH:
        _become(order["uid"], order["gid"], capability)
    elif first == _CANNOT_BECOME:
        _refuse(f"this root may not become uid {order['uid']}")
    else:
        path = [order["argv"][0], *order["programs"], *order["paths"]][first]
        _refuse(f"uid {order['uid']} cannot reach {path}")


def main() -> NoReturn:
    """Carry out the order in ``sys.argv[1]``; exits with LAUNCH_FAILED and one line on stderr if it cannot."""
    order = json.loads(sys.argv[1])
    os.umask(0o077)
    try:
        if order.get("uid") is not None:
            _give_up_root(order)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        # last, for a change of uid clears it
        _prctl(_PR_SET_PDEATHSIG, order["death_signal"])
        if os.getppid() != order["parent"]:
            _refuse("the engine is gone")
        os.execv(order["argv"][0], order["argv"])  # noqa: S606 -- the whole purpose; argv is ours
    except OSError as error:
        _refuse(f"uid {order.get('uid')}: {error}")


if __name__ == "__main__":
    main()

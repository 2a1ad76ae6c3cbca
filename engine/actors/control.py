"""The control socket: commands of the operator on this box, with or without the HTTP server.

One JSON object a line in, one out, over a Unix socket in the data directory that only the engine's
own user can open. No mailbox: each connection asks the guardian directly. Restart: permanent.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from engine.errors import EngineError

_log = structlog.get_logger(__name__)

NAME = "control.sock"
_LINE_BYTES = 64 * 1024
_CLIENT_TIMEOUT_S = 30.0
_PAUSE_S = 0.1
# a full one makes a caller's connect look done when it is not
_BACKLOG = 128
# of the box or of one caller, not of the socket
_PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED))

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def socket_address(folder_descriptor: int) -> str:
    """Return a path of the socket that is short whatever the data directory's is (a limit of 108 bytes)."""
    return f"/proc/self/fd/{folder_descriptor}/{NAME}"


class ControlSocket:
    """Serves commands to the operator's own programs."""

    def __init__(self, data_dir: Path, handler: Handler) -> None:
        self._data_dir = data_dir
        self._handler = handler

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        folder = os.open(self._data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self._data_dir / NAME
        try:
            path.unlink(missing_ok=True)  # the data directory is locked: it is a dead engine's
            # Linux makes the file with the mode that the socket has: nobody else can open it, not for a moment
            os.fchmod(listener.fileno(), 0o600)
            await listener.bind(socket_address(folder))
            listener.listen(_BACKLOG)
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        connection, _ = await listener.accept()
                    except OSError as error:
                        if error.errno not in _PASSING:
                            raise
                        _log.warning("control.cannot_accept", error=str(error))
                        await trio.sleep(_PAUSE_S)
                        continue
                    nursery.start_soon(self._serve, trio.SocketStream(connection))
        finally:
            listener.close()
            os.close(folder)
            path.unlink(missing_ok=True)

    async def _serve(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(_CLIENT_TIMEOUT_S):
            try:
                async with stream:
                    line = bytearray()
                    while not line.endswith(b"\n"):
                        received = await stream.receive_some(4096)
                        if not received:
                            return
                        if len(line) <= _LINE_BYTES:  # the rest of a line too long is read, so that its answer is
                            line += received
                        else:
                            line[-1:] = received[-1:]
                    await stream.send_all(await self._answer(bytes(line)) + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the program went away; what it asked for stands

    async def _answer(self, line: bytes) -> bytes:
        try:
            if len(line) > _LINE_BYTES:
                raise EngineError(f"a command has at most {_LINE_BYTES} bytes")
            request = msgspec.json.decode(line, type=dict[str, Any])
            return msgspec.json.encode(await self._handler(request))
        except Exception as error:  # the operator is told; the engine goes on
            _log.warning("control.refused", error=str(error))
            return msgspec.json.encode({"error": str(error) or type(error).__name__})


async def call(data_dir: Path, request: dict[str, Any], *, timeout_s: float = 15.0) -> dict[str, Any] | None:
    """Ask the engine that runs on *data_dir*; None when none listens.

    Raises TooSlowError when it does not answer, EngineError when its answer broke off or the socket is
    another user's.
    """
    try:
        folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise EngineError(f"{data_dir} belongs to another user: run this as the engine's user") from error
    try:
        with trio.fail_after(timeout_s):
            return await _ask(folder, request)
    finally:
        os.close(folder)


async def _ask(folder: int, request: dict[str, Any]) -> dict[str, Any] | None:
    try:
        stream = await trio.open_unix_socket(socket_address(folder))
    except PermissionError as error:
        raise EngineError("the engine runs as another user: run this as that user") from error
    except OSError:
        return None
    answer = b""
    try:
        async with stream:
            await stream.send_all(msgspec.json.encode(request) + b"\n")
            while not answer.endswith(b"\n"):
                received = await stream.receive_some(65536)
                if not received:
                    break
                answer += received
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (trio.BrokenResourceError, msgspec.DecodeError) as error:
        raise EngineError("the engine ended before it answered; ask for the state again") from error

"""The least that an order server on this machine can do: read with httptools, fdatasync in groups, answer a constant.

``python order_floor.py FILE`` prints its URL and serves until it is ended.
"""

import os
import sys

import httptools
import trio

_ANSWER = (
    b"HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: 68\r\n\r\n"
    b'{"status":"success","data":{"order_id":"1234567890123456789"}}      '
)


class _Request:
    def __init__(self) -> None:
        self.body, self.is_whole = b"", False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_whole = True


class _Log:
    """Lines that are on the disk before anybody who waited for them goes on."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []
        self._arrived, self._written = trio.Event(), trio.Event()

    async def keep(self, line: bytes) -> None:
        self._waiting.append(line)
        self._arrived.set()
        await self._written.wait()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            lines, self._waiting, self._arrived = self._waiting, [], trio.Event()
            written, self._written = self._written, trio.Event()
            await trio.to_thread.run_sync(self._write, b"\n".join(lines))
            written.set()

    def _write(self, content: bytes) -> None:
        os.write(self._file, content)
        os.fdatasync(self._file)


async def main() -> None:
    """Serve."""
    log = _Log(sys.argv[1])

    async def serve(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some(65536):
            request = _Request()
            parser = httptools.HttpRequestParser(request)
            parser.feed_data(data)
            while not request.is_whole:
                parser.feed_data(await stream.receive_some(65536))
            await log.keep(request.body)
            await stream.send_all(_ANSWER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
        await trio.serve_listeners(serve, listeners)


if __name__ == "__main__":
    trio.run(main)

"""The control socket, with callers that know nothing of manners."""

import errno
import os
import socket

import msgspec
import pytest
import trio
import trio.testing

from engine.actors import control
from engine.actors.control import NAME, ControlSocket, call
from engine.errors import EngineError


async def echo(request):
    if "fail" in request:
        raise EngineError(request["fail"])
    if "odd" in request:
        return {"odd": object()}
    return {"got": request}


@pytest.fixture
async def data_dir(tmp_path, nursery):
    # longer than a socket's address may be
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    await nursery.start(ControlSocket(folder, echo).run)
    return folder


async def raw(data_dir, data, *, end=False):
    folder = os.open(data_dir, os.O_RDONLY)
    try:
        stream = await trio.open_unix_socket(control.socket_address(folder))
    finally:
        os.close(folder)
    with trio.fail_after(10):
        async with stream:
            await stream.send_all(data)
            if end:
                await stream.send_eof()
            answer = b""
            async for received in stream:
                answer += received
    return answer


async def test_command_is_answered_in_a_folder_with_a_long_name(data_dir):
    assert await call(data_dir, {"command": "x", "text": "é\n"}) == {"got": {"command": "x", "text": "é\n"}}
    assert (data_dir / NAME).stat().st_mode & 0o777 == 0o600


async def test_long_command_arrives_whole(data_dir):
    text = "y" * 60_000
    assert await call(data_dir, {"text": text}) == {"got": {"text": text}}


@pytest.mark.parametrize(
    "line",
    [b"\n", b"garbage\n", b"[1]\n", b'"x"\n', b"\xff\xfe\n", b"{" * 50_000 + b"\n", b"[" * 60_000 + b"\n"],
)
async def test_garbage_is_refused_and_the_socket_goes_on(data_dir, line):
    assert "error" in msgspec.json.decode(await raw(data_dir, line))
    assert await call(data_dir, {"a": 1}) == {"got": {"a": 1}}


async def test_line_too_long_is_refused_with_an_answer(data_dir):
    answer = msgspec.json.decode(await raw(data_dir, b'{"a": "' + b"x" * 300_000 + b'"}\n'))
    assert "at most 65536 bytes" in answer["error"]


async def test_caller_that_leaves_in_the_middle_gets_nothing_and_harms_nothing(data_dir):
    assert await raw(data_dir, b'{"a": ', end=True) == b""
    assert await call(data_dir, {"a": 1}) == {"got": {"a": 1}}


@pytest.mark.parametrize("request_", [{"fail": "not now"}, {"odd": 1}])
async def test_command_that_fails_is_told_and_the_socket_goes_on(data_dir, request_):
    assert "error" in await call(data_dir, request_)
    assert await call(data_dir, {"a": 1}) == {"got": {"a": 1}}


async def test_many_callers_at_once_are_answered(data_dir):
    answers = []

    async def ask(number):
        answers.append((await call(data_dir, {"n": number}))["got"]["n"])

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(ask, number)
    assert sorted(answers) == list(range(40))


async def test_dead_engines_socket_is_taken_over(tmp_path, nursery):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / NAME))
    left.close()
    assert await call(tmp_path, {"a": 1}) is None
    await nursery.start(ControlSocket(tmp_path, echo).run)
    assert await call(tmp_path, {"a": 1}) == {"got": {"a": 1}}


async def test_socket_is_gone_after_the_stop(tmp_path):
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlSocket(tmp_path, echo).run)
        nursery.cancel_scope.cancel()
    assert not (tmp_path / NAME).exists()
    assert await call(tmp_path, {"a": 1}) is None


async def test_no_engine_and_no_folder_is_none(tmp_path):
    assert await call(tmp_path, {"a": 1}) is None
    assert await call(tmp_path / "none", {"a": 1}) is None
    (tmp_path / "file").write_text("")
    assert await call(tmp_path / "file", {"a": 1}) is None


async def test_engine_that_ends_before_its_answer_is_an_error(tmp_path, nursery):
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / NAME))
    listener.listen(1)

    async def hang_up():
        connection, _ = await listener.accept()
        await connection.recv(100)
        connection.close()

    nursery.start_soon(hang_up)
    with pytest.raises(EngineError, match="ended before it answered"):
        await call(tmp_path, {"a": 1})
    listener.close()


async def test_engine_that_hangs_is_too_slow(tmp_path):
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / NAME))
    listener.listen(1)
    with pytest.raises(trio.TooSlowError):
        await call(tmp_path, {"a": 1}, timeout_s=0.05)
    listener.close()


async def test_box_without_descriptors_pauses_accepting_and_goes_on(data_dir, monkeypatch):
    failures = [OSError(errno.EMFILE, "Too many open files")] * 3
    with trio.socket.socket() as any_socket:
        kind = type(any_socket)
    original = kind.accept

    async def accept(self):
        if failures:
            await trio.lowlevel.checkpoint()
            raise failures.pop()
        return await original(self)

    monkeypatch.setattr(kind, "accept", accept)
    for _ in range(3):
        assert await call(data_dir, {"a": 1}) == {"got": {"a": 1}}
    assert failures == []

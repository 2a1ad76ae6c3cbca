"""A backup restored as a trial: into stores of its own in a folder that is removed, and an engine started on it.

The engine of the trial reaches no broker and no chat: its addresses are those of nobody, and its global kill switch is
on.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from engine.config import Config, DatabaseConfig, RedisConfig, SecurityConfig
from engine.errors import EngineError

_READY_S = 180.0
_STOP_S = 30.0
_NOBODY = "127.0.0.1:9"
_READY = b"engine ready "

Say = Callable[[str], None]


@contextmanager
def throwaway() -> Iterator[Path]:
    """Make a folder that only this user can read, and remove it with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix="engine-trial-"))
    try:
        yield folder / "data"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alone(settings: Config) -> Config:
    """Return *settings* with stores and keys of the trial's own."""
    changes = {"database": DatabaseConfig(), "redis": RedisConfig(), "security": SecurityConfig()}
    return type(settings)(**{name: changes.get(name, getattr(settings, name)) for name in settings.__struct_fields__})


def dry_start(data_dir: Path, mode: str, say: Say) -> None:
    """Start an engine on what was restored in *data_dir*, and stop it once it is ready. Raises EngineError."""
    config = data_dir.parent / "engine.toml"
    config.write_text(
        f'[broker]\nmode = "{mode}"\n[broker.kite]\nroot_url = "http://{_NOBODY}"\nws_url = "ws://{_NOBODY}"\n'
        f'login_url = "http://{_NOBODY}/connect/login"\n[telegram]\nmode = "off"\n',
        encoding="utf-8",
    )
    trio.run(_run, config, data_dir)
    say("an engine started on it, found everything, and stopped")


async def _run(config: Path, data_dir: Path) -> None:
    words = ["-m", "engine", "run", "--config", str(config), "--data-dir", str(data_dir), "--port", "0"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE")}
    log = data_dir.parent / "said"
    with log.open("wb") as said:
        process = await trio.lowlevel.open_process(
            [sys.executable, *words], stdin=-3, stdout=-1, stderr=said, env=environ, cwd=data_dir.parent
        )
    assert process.stdout is not None  # noqa: S101 -- narrows the type
    try:
        with trio.move_on_after(_READY_S):
            seen = b""
            async for part in process.stdout:
                seen += part
                if _READY in seen:
                    return
        why = " ".join(log.read_text("utf-8", "replace").split()[-60:]) or "it said nothing"
        raise EngineError(f"restored, but no engine starts on it: {why}")
    finally:
        with trio.move_on_after(_STOP_S, shield=True) as stopping:
            if process.returncode is None:
                process.terminate()
            await process.wait()
        if stopping.cancelled_caught:
            process.kill()
            await process.wait()

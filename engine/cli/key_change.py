"""What `engine keys rotate` does, in an order that a kill at any point leaves readable.

A kept key (in the data directory): the next key is made beside it and both are kept until nothing needs the old one;
then the next one takes its place. A configured key: the new one is in a file of its own, and is retired into use when
the configuration names it; until then both open everything. Each step finds by itself what is left to be done.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from engine.actors.control import call
from engine.assembly import deployment_of
from engine.cli.places import load_keys
from engine.clock import SystemClock
from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.errors import EngineError
from engine.leadership import SILENT_S
from engine.runtime import holder
from engine.security.creds_file import CredsFile, CredsUnreadable
from engine.security.keys import Keys, create_key_file, has_next, kek_of_file, make_next, put_next_in_place
from engine.security.root_key import write_root
from engine.security.wrapping import Kek
from engine.store import audit_append, data_keys, key_rotation, lease
from engine.store.database import Database
from engine.store.migrate import migrate

_UNIT_S = 30.0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: the new key, how many secrets were sealed anew and keys removed; ``todo`` is the operator's."""

    kek_id: str
    resealed: int
    retired: int
    todo: str = ""


class KeyChange:
    """One run; *progress* is told how many records are done of how many."""

    def __init__(
        self,
        settings: Config,
        data_dir: Path,
        database_url: str,
        *,
        new_key: Path | None,
        progress: Callable[[int, int], None],
    ) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._folder = data_dir / "keys"
        self._url = database_url
        self._new_key = None if new_key is None else new_key.absolute()
        self._progress = progress
        self._is_kept = settings.security.master_key is None
        self._database = Database(database_url, max_connections=1)

    async def run(self) -> Change:
        """Change the keys, or bring a change that was cut short to its end. Raises EngineError with the mend."""
        await migrate(self._url)
        await self._database.open()
        try:
            return await self._run()
        finally:
            await self._database.close()

    async def _run(self) -> Change:
        keys = load_keys(self._settings.security, self._data_dir)
        held = await self._unit(lambda c: data_keys.stored_root(c, keys.keks))
        keys = keys if held is None else keys.with_root(held)
        answer = await self._engine_here()
        target = await self._target(keys)
        ring, creds = keys.ring(), keys.ring()
        ring.add(target)
        creds.add(target)
        # before anything is wrapped: what works without the stores must find the root under either key
        await trio.to_thread.run_sync(write_root, self._folder, keys.master, ring.keks)
        settled = await self._unit(lambda c: key_rotation.renew(c, ring, keys.master, uses=data_keys.BLOCK))
        settled.give_to(ring)
        if answer is not None:
            await self._tell_engine(target, self._holds(answer, target))
        resealed = await self._reseal(ring, keys)
        if answer is None:
            await trio.to_thread.run_sync(self._reseal_creds, keys, creds)
        if not self._is_kept and self._new_key is not None and target not in keys.keks:
            return Change(kek_id=target.id.hex(), resealed=resealed, retired=0, todo=self._todo())
        retired = await self._unit(lambda c: key_rotation.retire(c, ring))
        ring.keep_only_newest()
        await trio.to_thread.run_sync(self._retire_files, keys.master, target)
        if answer is not None:
            await self._ask({"command": "keys-retired"})
        await self._record(target, resealed, retired)
        return Change(kek_id=target.id.hex(), resealed=resealed, retired=retired, todo=self._leftover())

    # which key

    async def _target(self, keys: Keys) -> Kek:
        if self._is_kept:
            if self._new_key is not None:
                raise EngineError("the master key is kept in the data directory: leave --new-key out")
            return await trio.to_thread.run_sync(make_next, self._folder)
        if self._new_key is not None:
            await trio.to_thread.run_sync(create_key_file, self._new_key)
            return await trio.to_thread.run_sync(kek_of_file, self._new_key)
        newest = keys.keks[0]
        ring = keys.ring()
        if len(keys.keks) > 1 or await self._unit(lambda c: key_rotation.foreign_keks(c, ring)):
            return newest  # the configuration has the new key already: what began is brought to its end
        raise EngineError(
            "[security] master_key is configured, so say where the new one is: `engine keys rotate --new-key FILE` "
            "makes the file; it then says what to write into engine.toml"
        )

    # the engine that runs

    async def _engine_here(self) -> dict[str, Any] | None:
        """Return what the engine of this data directory holds, None when none runs anywhere. Raises EngineError."""
        answer = await call(self._data_dir, {"command": "keys-status"})
        if answer is not None:
            if "error" in answer:
                raise EngineError(f"the engine that runs does not know how: {answer['error']}")
            return answer
        held = await self._unit(lease.read)
        named = None if held is None else holder.read(held.holder)
        if held is None or held.released or held.age_s >= SILENT_S or (named is not None and named.is_dead):
            return None
        raise EngineError(
            f"{holder.told(held.holder)} leads and would go on sealing under the old keys: run this where it "
            "runs, with its data directory, or stop it first"
        )

    def _holds(self, answer: dict[str, Any], target: Kek) -> bool:
        return target.id.hex() in answer["keks"]

    async def _tell_engine(self, target: Kek, holds: bool) -> None:
        if not self._is_kept and self._new_key is None and not holds:
            raise EngineError("the engine that runs still has the old configuration: restart it, then run this again")
        file = None if self._new_key is None else str(self._new_key)
        answer = await self._ask({"command": "keys-renewed", "file": file})
        if not self._holds(answer, target):
            raise EngineError("the engine that runs did not take the new key up: is it of another data directory?")

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = await call(self._data_dir, request)
        if answer is None:
            raise EngineError("the engine ended meanwhile: run this again")
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        return answer

    # the secrets

    async def _reseal(self, ring: Any, keys: Keys) -> int:
        total, done = await self._unit(key_rotation.waiting), 0
        self._progress(0, total)
        while True:
            count = await self._unit(lambda c: key_rotation.reseal(c, ring))
            if not count:
                return done
            done += count
            self._progress(min(done, total), total)
            settled = await self._unit(lambda c: data_keys.settle(c, ring, keys.master, ()))
            settled.give_to(ring)

    def _reseal_creds(self, keys: Keys, ring: Any) -> None:
        file = CredsFile(self._data_dir / "state" / "creds.enc", ring, deployment=deployment_of(keys))
        try:
            accounts = file.read()
        except CredsUnreadable:
            return  # an engine writes it anew as it runs
        file.write(accounts)

    def _retire_files(self, root: bytes, target: Kek) -> None:
        write_root(self._folder, root, [target], and_no_other=True)
        if self._is_kept and has_next(self._folder):
            put_next_in_place(self._folder)

    async def _record(self, target: Kek, resealed: int, retired: int) -> None:
        draft = AuditDraft(
            at=SystemClock().now(),
            actor="cli",
            action="KEYS_ROTATED",
            subject=f"key:{target.id.hex()}",
            content={"resealed": resealed, "retired": retired},
        )
        await audit_append.append_beside_engine(self._database, draft)

    async def _unit(self, unit: Any) -> Any:
        return await self._database.run(unit, timeout_s=_UNIT_S, shield=True)

    # words

    def _todo(self) -> str:
        return (
            f'now write `master_key = "file:{self._new_key}"` under [security] of engine.toml (or into '
            "ENGINE__SECURITY__MASTER_KEY), of every engine on these stores, restart them one by one, and run "
            "`engine keys rotate` once more: it retires the old key. Until then both keys open everything"
        )

    def _leftover(self) -> str:
        if self._settings.security.master_key_previous is None:
            return ""
        return "done: take master_key_previous out of engine.toml; the old master key opens nothing any more"

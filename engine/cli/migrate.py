"""``engine migrate``: forward-only migrations."""

from typing import Annotated

import trio
import typer

from engine.cli.places import ConfigOption, DataDirOption, config_of, data_dir_of, open_stores, say
from engine.store import migrate as store_migrate


def migrate(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be applied.")] = False,
) -> None:
    """Bring the database to this engine's schema, under one lock."""
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def work() -> None:
        async with open_stores(settings, folder) as stores:
            done = await store_migrate.migrate(stores.database_url, dry_run=dry_run)
            for migration in done:
                say(f"{'would apply' if dry_run else 'applied'} {migration.name}")
            if not done:
                have, known = len(await store_migrate.applied(stores.database_url)), store_migrate.latest_version()
                ahead = f", ahead of this engine's {known} by additions that it does not need" if have > known else ""
                say(f"the schema is at version {have or known}{ahead}: nothing to do")

    trio.run(work)

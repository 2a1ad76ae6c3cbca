"""``engine exchange``: the Kite-compatible paper exchange alone."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import trio
import typer

from engine.cli.run import announce
from engine.exchange.standalone import serve_standalone


def exchange(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one.")] = 0,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    record: Annotated[
        Path | None, typer.Option("--record", help="File that every order and trade is written to.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the price process.")] = 1,
    capital: Annotated[int, typer.Option("--capital", min=1, help="Rupees of the account.")] = 1_000_000,
) -> None:
    """Run the exchange until Ctrl-C or SIGTERM; prints its API key and secret, then its address."""

    async def work() -> None:
        await serve_standalone(
            host=host,
            port=port,
            record_path=record,
            seed=seed,
            capital=Decimal(capital),
            announce=announce,
        )

    trio.run(work)

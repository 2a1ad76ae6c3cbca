"""``engine login``: the link to the broker's login page, and the end of a login without a public address."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from engine.actors.control import call
from engine.cli.places import DataDirOption, JsonOption, data_dir_of, say, say_json
from engine.clock import IST
from engine.errors import EngineError

# Longer than the engine waits for the broker.
_TIMEOUT_S = 40.0


def login(
    account: Annotated[
        str, typer.Argument(help="Label or id of the kite account; may be left out when there is one.")
    ] = "",
    request_token: Annotated[
        str,
        typer.Option(
            "--request-token",
            help="Finish the login: the request_token, or the address that the browser was sent to; - reads a line.",
        ),
    ] = "",
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Print where to log a kite account in, or finish that login; the engine must run."""
    folder = data_dir_of(data_dir)
    if request_token:
        given = sys.stdin.readline() if request_token == "-" else request_token  # noqa: S105 -- a dash
        told = _ask(folder, {"command": "login-complete", "account": account, "requestToken": given})
    else:
        told = _ask(folder, {"command": "login-url", "account": account})
    if json:
        say_json(told)
    elif request_token:
        say(f"account {told['account']} is {told['status']}, Zerodha user {told['brokerUserId']}")
    else:
        say(f"log account {told['account']} in with this address, once and before {_clock_time(told['expiresAt'])}:")
        say(str(told["url"]))
        say(f"the app's redirect URL on the Kite developer console must be {told['callbackUrl']}")
        say("where the browser cannot reach that: engine login --request-token 'ADDRESS IT WAS SENT TO'")


def _clock_time(stamp: str) -> str:
    return f"{datetime.fromisoformat(stamp).astimezone(IST):%H:%M:%S} IST"


def _ask(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    async def work() -> dict[str, Any] | None:
        return await call(folder, request, timeout_s=_TIMEOUT_S)

    try:
        answer: dict[str, Any] | None = trio.run(work)
    except trio.TooSlowError as error:
        raise EngineError("the engine does not answer; try again") from error
    if answer is None:
        raise EngineError("no engine runs on this data directory: start it with `engine run`, then log in")
    if "error" in answer:
        raise EngineError(str(answer["error"]))
    return answer

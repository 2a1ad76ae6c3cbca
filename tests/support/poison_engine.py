"""The real engine, which dies of one kind of delivery: a launcher for tests, no part of the product.

    python -m tests.support.poison_engine run --port 0

A signal for `QUANTITY` units kills the process as soon as it is handed to its user's risk actor.
"""

import os
import signal

from engine.actors.crew import Crew
from engine.actors.intake import Passage

QUANTITY = 666

_decide = Crew.decide


def _die_of_it(crew: Crew, passage: Passage) -> None:
    if any(item.signal.quantity == QUANTITY for item in passage.delivery.items):
        os.kill(os.getpid(), signal.SIGKILL)
    _decide(crew, passage)


if __name__ == "__main__":
    Crew.decide = _die_of_it  # type: ignore[method-assign]
    from engine.cli.root import main

    main()

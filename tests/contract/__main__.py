"""The API against its own document, for longer: ``python -m tests.contract --cases 5000``.

Starts an engine of its own, makes up that many calls over all operations with every check of schemathesis, and
prints what stood and what did not. Exit 1 when anything did not.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.contract.calls import operations, try_operation
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine


def main() -> int:
    """Run the calls; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="calls in all, spread over the operations")
    parser.add_argument("--only", default="", help="operations whose path holds this text")
    parser.add_argument("--fixed", action="store_true", help="the same calls every time")
    options = parser.parse_args()
    begun, made, faults = time.monotonic(), 0, 0
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory() as folder:
        for engine in paper_engine(servers, Path(folder), "contract_cases"):
            found = [each for each in operations(engine) if options.only in each.path]
            each_gets = max(1, -(-options.cases // max(1, len(found))))
            for operation in found:
                try:
                    made += try_operation(engine, operation, cases=each_gets, seed=options.fixed)
                except Exception as fault:
                    faults += 1
                    print(f"FAULT {operation.method.upper()} {operation.path}\n{_told(fault)}\n", flush=True)
    took = time.monotonic() - begun
    print(f"{made} calls of {len(found)} operations in {took:.0f} s, {faults} operations with faults")
    return 1 if faults else 0


def _told(fault: BaseException) -> str:
    if isinstance(fault, BaseExceptionGroup):
        return "\n".join(_told(each) for each in fault.exceptions)
    return f"{type(fault).__name__}: {fault}"


if __name__ == "__main__":
    sys.exit(main())

"""How much of everything a run of the table takes: the sizes of the targets, and small ones to try it out."""

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the rows are measured with; ``command`` is how one row is measured alone."""

    runs: int = 3
    seconds: float = 20.0
    rate: float = 100.0
    rates: tuple[float, ...] = (25, 50, 100, 200, 400, 800)
    fan_out: int = 1000
    accounts: int = 10_000
    active: int = 1000
    open_signals: int = 20_000
    trips: int = 100
    trip_rate: float = 50.0
    idle_s: float = 60.0
    growth_s: float = 3600.0

    def command(self, name: str) -> str:
        """Return the command of the row *name*."""
        return f"python -m tests.benchmarks --only {name}" + (" --quick" if self.runs == 1 else "")

    def told(self) -> str:
        """Say what was left smaller than the target's own size."""
        whole = Sizes()
        small = [
            f"{getattr(self, name):,g} {word}"
            for name, word in (
                ("fan_out", "accounts for the fan-out"),
                ("accounts", "accounts configured"),
                ("open_signals", "open signals"),
                ("growth_s", "s of growth"),
            )
            if getattr(self, name) < getattr(whole, name)
        ]
        runs = f"Medians of {self.runs} runs (least to greatest)." if self.runs > 1 else "One run each."
        return runs + (f" Smaller than the targets' sizes: {', '.join(small)}." if small else "")


QUICK = Sizes(
    runs=1,
    seconds=5.0,
    rates=(25, 50, 100, 200),
    fan_out=100,
    accounts=500,
    active=50,
    open_signals=2000,
    trips=8,
    idle_s=10.0,
    growth_s=20.0,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each size."""
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: to see that it works")
    for name, kind, what in (
        ("runs", int, "how often each figure is measured; the median counts"),
        ("seconds", float, "how long each load runs"),
        ("rate", float, "signals a second of the first row"),
        ("fan-out", int, "accounts of the one signal"),
        ("accounts", int, "accounts configured"),
        ("active", int, "accounts of those that trade"),
        ("open-signals", int, "signals open at the kill"),
        ("trips", int, "trips of the kill switch"),
        ("trip-rate", float, "signals a second under which it trips, times six"),
        ("idle-s", float, "how long the idle engine is watched"),
        ("growth-s", float, "how long memory is watched under load; 3600 is the target's hour"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=None, help=what)
    parser.add_argument("--rates", type=float, nargs="+", default=None, help="signals a second of the plot")


def chosen(asked: argparse.Namespace) -> Sizes:
    """Return the sizes asked for."""
    start = QUICK if asked.quick else Sizes()
    values = {name: getattr(asked, name) for name in Sizes.__dataclass_fields__ if getattr(asked, name) is not None}
    if "rates" in values:
        values["rates"] = tuple(values["rates"])
    return Sizes(**{**start.__dict__, **values})


def peer_path(text: str) -> Path:
    """Read ``--peer``: a folder with the peer's package.json."""
    found = Path(text).expanduser().resolve()
    if not (found / "package.json").is_file():
        raise argparse.ArgumentTypeError(f"{found} has no package.json: name the folder of the Node peer")
    return found

"""Names that stand for published addresses in an ``ipAllowlist``."""

from collections.abc import Iterable, Mapping

PRESETS: Mapping[str, tuple[str, ...]] = {
    # TradingView, "How to configure webhook alerts" (support article 43000529348), read in November 2026
    "tradingview": ("52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7"),
}


def with_presets(entries: Iterable[str]) -> tuple[str, ...]:
    """Return *entries* with each name of a preset replaced by its addresses; all else as it stands."""
    return tuple(address for entry in entries for address in PRESETS.get(entry, (entry,)))

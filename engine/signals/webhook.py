"""Signals from any program: the same JSON as a sheet sends (contract section 4)."""

from engine.signals.sheets import Batch, parse, parse_element, parse_value

__all__ = ["Batch", "parse", "parse_element", "parse_value"]

"""Drills of the kill switch: an engine and a paper exchange of their own, faults, a trip under load, a report.

Speaks to both as any client does: the public API, Kite's own routes, the exchange's control port and its record.
Nothing of it touches an engine, a store or a broker that it did not start itself.
"""

"""Trading execution engine: signals in, risk-checked and audited orders out, exactly once."""

__version__ = "0.1.0"

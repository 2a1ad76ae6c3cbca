"""What an engine that only rehearses is told of limits, in its configuration file: none."""

NO_LIMITS = """\
[risk]
price_band_pct = "none"
max_order_value = "none"
max_order_quantity = "none"
max_position_pct = "none"
max_open_positions = "none"
max_orders_per_minute = "none"
max_orders_per_day = "none"
max_daily_loss_pct = "none"
circuit_breaker_failures = "none"
"""

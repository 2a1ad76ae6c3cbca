"""The demo: a seeded day of several people trading on the paper exchange, at speed, so that there is life to see."""

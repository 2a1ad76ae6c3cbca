"""What is gathered for the checks of the day: the box, the stores, the ways outside, and a running engine's memory."""

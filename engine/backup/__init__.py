"""A consistent copy of everything an engine keeps, in one sealed file, and the way back."""

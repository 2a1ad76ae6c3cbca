"""Measuring an engine from outside: its own load, its own broker, every order matched to its signal.

Clients only: nothing here reaches into an engine but over HTTP, and nothing of an engine imports from here.
"""

"""How the one file is built; nothing of a running engine imports this."""

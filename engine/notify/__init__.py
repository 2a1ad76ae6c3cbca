"""Ways to tell people and programs outside: e-mail, signed webhook, ntfy, Apprise, and the sign of life."""

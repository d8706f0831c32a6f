"""How well policies do on levels that they never saw."""

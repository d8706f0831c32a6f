"""Changes of an observation that leave the state behind it unchanged."""

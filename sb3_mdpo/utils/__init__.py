"""Helpers without reinforcement learning in them."""

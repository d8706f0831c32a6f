"""Saving and restoring: exact resume, safe exports, deployment, conversion from and to PPO."""

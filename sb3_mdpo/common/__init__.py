"""What algorithms of several policies share, under the names of ``stable_baselines3.common``."""

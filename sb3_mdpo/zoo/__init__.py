"""MDPO inside rl-zoo3. Nothing is imported here: the start-up hook passes through at every start of Python."""

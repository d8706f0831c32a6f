"""MDPO in rl-zoo3. Nothing is imported here, because the start-up hook imports this package whenever Python starts."""

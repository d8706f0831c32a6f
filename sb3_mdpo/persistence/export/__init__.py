"""Models as plain data: a folder that can be read without running anything in it."""

"""Returns on training levels and on unseen levels."""

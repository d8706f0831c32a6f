"""What a table of evaluations says, and how sure it is of it (Agarwal et al., arXiv 2108.13264, through rliable)."""

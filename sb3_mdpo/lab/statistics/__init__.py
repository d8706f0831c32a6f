"""Statistics of a table of evaluations, with intervals by rliable (Agarwal et al., arXiv 2108.13264)."""

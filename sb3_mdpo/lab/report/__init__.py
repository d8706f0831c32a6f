"""One page with all results of a study or a run."""

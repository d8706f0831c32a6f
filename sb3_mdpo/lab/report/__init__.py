"""One page that shows everything there is about a study or a run."""

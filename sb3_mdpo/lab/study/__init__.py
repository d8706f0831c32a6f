"""Studies: many runs of the zoo that differ in environment, levels, method and seed, and one table of their results."""

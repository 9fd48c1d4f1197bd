"""Studies: many runs on paired seeds, compared, for the pipelines."""

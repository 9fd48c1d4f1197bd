"""Is the encoder learning? Frozen features, probes, rank, segmentation metrics and statistics."""

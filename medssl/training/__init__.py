"""The training loop, its data, optimiser, schedule and checkpoints; and pretraining."""

"""The training loop: losses, CoBa, schedule, checkpoints, merge."""

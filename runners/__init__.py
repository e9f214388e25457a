"""What runs: every job of mft-tui, each a program of its own, and the life of a run."""

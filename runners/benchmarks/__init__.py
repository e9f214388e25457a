"""The 13 tasks: rows, prompts, stopping, post-processing."""

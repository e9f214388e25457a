"""Engines that turn prompts into completions, and the job that keeps what they make."""

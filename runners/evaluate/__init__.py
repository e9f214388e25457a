"""Stored generations to verdicts: languages, sandbox, worker pool, pass@k."""

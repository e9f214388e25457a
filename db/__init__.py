"""What is remembered: runs, their metrics, scores, verdicts and artifacts, in one SQLite file."""

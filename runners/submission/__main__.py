"""``python -m runners.submission RUN_FOLDER``."""

import sys

from runners.config import ExportConfig
from runners.lifecycle.job import run_job
from runners.submission.job import work

if __name__ == "__main__":
    sys.exit(run_job("export", ExportConfig, work))

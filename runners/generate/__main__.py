"""``python -m runners.generate RUN_FOLDER``."""

import sys

from runners.config import GenerateConfig
from runners.generate.job import work
from runners.lifecycle.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("generate", GenerateConfig, work))

"""``python -m runners.evaluate RUN_FOLDER``."""

import sys

from runners.config.evaluate import EvaluateConfig
from runners.evaluate.work import evaluate
from runners.lifecycle.job import run_job

if __name__ == "__main__":
    sys.exit(run_job("evaluate", EvaluateConfig, evaluate))

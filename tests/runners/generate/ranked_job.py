"""The generation job with one slow rank, which writes down which rank answered what.

``python -m tests.runners.generate.ranked_job SLOW_RANK RUN_FOLDER``, under a launcher. The ranks
begin together, once both have loaded the model: on a busy machine the first could else be done
before the second begins.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from runners.config import GenerateConfig
from runners.generate import local
from runners.generate.engine import Completion
from runners.generate.job import work
from runners.generate.ledger import Ledger
from runners.generate.loading import Loaded
from runners.lifecycle.job import run_job

RANK = os.environ["RANK"]
SLOW, RUN = sys.argv[1:]

append, load = Ledger.append, local.load_model


def load_together(*arguments: Any) -> Loaded:
    """Load the model, and wait until the other rank has."""
    from accelerate import PartialState

    loaded = load(*arguments)
    PartialState().wait_for_everyone()
    return loaded


def noted(ledger: Ledger, completion: Completion) -> None:
    """Append, note the rank, and take one's time if one is slow."""
    append(ledger, completion)
    with (Path(RUN) / f"rank-{RANK}.txt").open("a") as file:
        file.write(f"{completion.task}/{completion.index}\n")
    time.sleep(0.5 if RANK == SLOW else 0.0)


if __name__ == "__main__":
    Ledger.append = noted  # type: ignore[method-assign]
    local.load_model = load_together
    sys.exit(run_job("generate", GenerateConfig, work, [RUN]))

"""What a job says when it goes on from a checkpoint, and how a watcher learns the step from it.

Apart, and light, because the job that writes the sentence and the chart that marks the step must
agree on it, and neither may import the other. It is a notice and no event of its own so that an
older reader, which knows no such event, still shows it to the person.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_RESUMED = re.compile(r"resumed from .+ at step (\d+), ", re.DOTALL)


def resumed_notice(checkpoint: Path, step: int, how: str) -> str:
    """The sentence: ``step`` optimizer steps lie behind; ``how`` the data order goes on."""
    return f"resumed from {checkpoint} at step {step}, {how}"


def resumed_steps(notices: Iterable[str]) -> tuple[int, ...]:
    """The steps at which a run was resumed, ascending, each once; other notices are passed over."""
    found = (_RESUMED.match(text) for text in notices)
    return tuple(sorted({int(one[1]) for one in found if one}))

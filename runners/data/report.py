"""What a validation says, as values: the shape of ``validate --json``.

``ok``, ``records``, ``error_count`` and, for each task, ``name``, ``path``, ``files``, ``records``,
``rounds``, ``bytes`` and ``errors`` are a contract with other programs; the rest may grow.
"""

import msgspec
import numpy as np


class BadPlace(msgspec.Struct, frozen=True):
    """One error: the file, the line from 1, the JSON path, and what is wrong there."""

    file: str
    line: int
    where: str
    message: str


class Example(msgspec.Struct, frozen=True):
    """One place where a warning holds."""

    file: str
    line: int
    message: str


class Warned(msgspec.Struct, frozen=True):
    """A kind of warning: how many records it holds of, and the first few."""

    kind: str
    count: int
    examples: list[Example]


class Percentiles(msgspec.Struct, frozen=True):
    """The middle, the tail and the end of a distribution."""

    p50: int
    p90: int
    p99: int
    max: int

    @classmethod
    def of(cls, values: np.ndarray) -> "Percentiles":
        """Nearest-rank percentiles; zeros of nothing."""
        if len(values) == 0:
            return cls(0, 0, 0, 0)
        p50, p90, p99 = np.percentile(values, [50, 90, 99], method="inverted_cdf").tolist()
        return cls(int(p50), int(p90), int(p99), int(values.max()))


class TokenReport(msgspec.Struct, frozen=True):
    """A task's tokens under a tokenizer and a row length.

    ``longer`` records exceed seq_length, of which ``truncated`` would be cut, ``dropped`` left out,
    ``split`` cut in pieces; ``untrained`` would keep nothing to train and are left out as well.
    ``pack_fill`` is the share of positions that hold a token when the task is packed, 0 to 1.
    """

    tokens: int
    trained_tokens: int
    lengths: Percentiles
    seq_length: int
    longer: int
    truncated: int
    dropped: int
    split: int
    untrained: int
    pack_rows: int
    pack_fill: float


class TaskReport(msgspec.Struct, frozen=True):
    """One task folder. ``lengths`` are characters of content a record."""

    name: str
    path: str
    format: str
    files: int
    records: int
    rounds: int
    bytes: int
    error_count: int
    errors: list[BadPlace]
    warnings: list[Warned]
    lengths: Percentiles
    fences: dict[str, int]
    tokens: TokenReport | None = None


class TokenizerNote(msgspec.Struct, frozen=True):
    """The tokenizer that was used, and the tokens it lacks and would get."""

    path: str
    fast: bool
    added_tokens: dict[str, int]


class Validation(msgspec.Struct, frozen=True):
    """All of it. ``ok`` is true when there is no error; warnings do not count."""

    ok: bool
    records: int
    error_count: int
    tasks: list[TaskReport]
    warning_count: int
    cross_task_duplicates: Warned
    leakage_checked: bool
    seconds: float
    tokenizer: TokenizerNote | None = None
    pack_fill: float | None = None

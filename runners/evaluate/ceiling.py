"""The most a benchmark lets anyone score: what its own solutions score after post-processing.

Some canonical solutions fail by the competition's rules (an import that is not used, a stop word
inside the solution, a declaration that lacks a type), and a perfect model loses those questions
too, or nearly. A score means more beside this ceiling. The questions were recorded by sending every
canonical solution through post-processing and running it (the exhaustive tests do that again).

MBPP's two are 331 (MBPP/342) and 356 (MBPP/367). MBPP/342 passes as it stands, and so is missing
where solutions are listed that fail when run directly; after post-processing it fails on every
machine, because its class stands below an import, and a class at the margin is a stop word.
MBPP/367 needs a set-up that the rules leave out. MBPP/123 takes most of its 3 CPU seconds (2.6 on
an AMD EPYC), so it may time out on a slow core; it counts as passed.
"""

from collections.abc import Iterable
from pathlib import Path

from runners.benchmarks.fingerprints import compare

CANONICAL_FAILS: dict[str, frozenset[int]] = {
    "humanevalfixtests-python": frozenset({142}),
    "humanevalfixtests-cpp": frozenset({38}),
    "humanevalsynthesize-go": frozenset({27, 72, 90, 158}),
    "humanevalfixtests-go": frozenset({10, 32, 38, 50, 72, 90, 158}),
    "humanevalsynthesize-rust": frozenset({137, 145}),
    "humanevalfixtests-rust": frozenset({137, 145}),
    "mbpp": frozenset({331, 356}),
}
"""Questions (by index) whose canonical solution fails after post-processing."""

CANONICAL_BY_CHANCE: dict[str, int] = {"go": 95, "rust": 32}
"""HumanEvalPack's two rows whose canonical solution passes or fails by a throw of the dice: Go 95
depends on the order in which a map is walked, Rust 32 draws the polynomials that it solves, and may
never find the zero of one. They count as passed in the ceiling."""


def official(benchmarks: Path, task: str) -> bool:
    """Whether the task's rows are the competition's own, so that the record holds for them."""
    return all(report.verdict == "official" for report in compare(benchmarks, [task]))


def ceiling(task: str, questions: Iterable[int]) -> float:
    """pass@1 in [0, 1] of the canonical solutions over these questions of an official task."""
    asked = set(questions)
    return 1.0 - len(asked & CANONICAL_FAILS.get(task, frozenset())) / len(asked)

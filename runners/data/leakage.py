"""Leakage: benchmark questions and solutions found in training data.

Two texts share material when they share a run of 13 words, the measure that GPT-3's authors used
(arXiv 2005.14165, appendix C). Runs that several problems share (an instruction's frame, a
licence) and runs of few different words (rows of numbers) say nothing and are left out.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

GRAM = 13
"""Words in a run."""

_FEWEST_DIFFERENT = 8
_MOST_PROBLEMS = 2
_WORD = re.compile(r"\w+")
_BREAK = 0
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class BenchmarkText:
    """A text that must not be trained on: which problem it belongs to, and its name for people.

    The languages of one problem share ``problem``, since they share its wording.
    """

    problem: str
    name: str
    text: str


@dataclass(frozen=True)
class LeakIndex:
    """The 13-grams of the benchmarks: sorted hashes, and the name each one stands for."""

    vocabulary: dict[str, int]
    grams: Hashes
    owners: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def search(self, texts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (index of text, name of the question) for each text that shares a 13-gram."""
        if not texts or len(self.grams) == 0:
            return
        words, ends = _word_numbers(texts, self.vocabulary)
        hashes, at = _gram_hashes(words)
        place = np.searchsorted(self.grams, hashes)
        place[place == len(self.grams)] = 0
        hits = np.flatnonzero(self.grams[place] == hashes)
        found = np.searchsorted(ends, at[hits], side="right")
        first = np.unique(found, return_index=True)
        for text, hit in zip(*first, strict=True):
            yield int(text), self.names[self.owners[place[hits[hit]]]]


def build_index(texts: Iterable[BenchmarkText]) -> LeakIndex:
    """Index the 13-grams of benchmark texts."""
    known = list(texts)
    vocabulary: dict[str, int] = {}
    for text in known:
        for word in _WORD.findall(text.text.lower()):
            vocabulary.setdefault(word, len(vocabulary) + 1)
    owner_of: dict[int, int] = {}
    problems_of: dict[int, set[str]] = {}
    for number, text in enumerate(known):
        words, _ = _word_numbers([text.text], vocabulary)
        hashes, at = _gram_hashes(words)
        for gram, start in zip(hashes.tolist(), at.tolist(), strict=True):
            if len(set(words[start : start + GRAM].tolist())) >= _FEWEST_DIFFERENT:
                owner_of.setdefault(gram, number)
                problems_of.setdefault(gram, set()).add(text.problem)
    telling = sorted(g for g, problems in problems_of.items() if len(problems) <= _MOST_PROBLEMS)
    return LeakIndex(
        vocabulary,
        np.array(telling, np.uint64),
        np.array([owner_of[gram] for gram in telling], np.int32),
        tuple(text.name for text in known),
    )


def _word_numbers(
    texts: Sequence[str], vocabulary: dict[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every word's number (0 for one no benchmark has), texts apart by a 0; and where each ends."""
    get = vocabulary.get
    numbers: list[int] = []
    ends = []
    for text in texts:
        numbers += [get(word, _BREAK) for word in _WORD.findall(text.lower())]
        numbers.append(_BREAK)
        ends.append(len(numbers))
    return np.array(numbers, np.int64), np.array(ends, np.int64)


def _gram_hashes(words: npt.NDArray[np.int64]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of the 13-grams of known words only, and the position of each one's first word."""
    if len(words) < GRAM:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    unknown = np.concatenate([[0], np.cumsum(words == _BREAK)])
    at = np.flatnonzero(unknown[GRAM:] == unknown[:-GRAM])
    hashes = np.zeros(len(at), np.uint64)
    for i in range(GRAM):
        hashes = (hashes ^ words[at + i].astype(np.uint64)) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    return hashes, at


def benchmark_texts(folder: Path) -> Iterator[BenchmarkText]:
    """The questions and solutions of the benchmarks in ``folder``.

    Raises ``MissingInputError`` when they are not there.
    """
    from runners.benchmarks.rows import load_questions
    from runners.benchmarks.tasks import TASKS

    for task in TASKS:
        if task.startswith("humanevalfixtests"):
            continue  # the same rows as humanevalsynthesize
        for question in load_questions(folder, task):
            family = "mbpp" if task == "mbpp" else "humaneval"
            for key in ("prompt", "instruction", "docstring", "canonical_solution", "text", "code"):
                if isinstance(text := question.row.get(key), str):
                    name = f"{task} question {question.index}"
                    yield BenchmarkText(f"{family}/{question.index}", name, text)

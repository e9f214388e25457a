"""MBPP (Austin et al., arXiv 2108.07732): 500 short Python functions from a sentence and a test."""

from collections.abc import Iterator, Mapping, Sequence

from runners.benchmarks.family import Parts, Row, StopRule, Task, WebFile

URL = (
    "https://raw.githubusercontent.com/google-research/google-research/"
    "2251e8c67a7fe7d6348714967ee101080b28e956/mbpp/mbpp.jsonl"
)
"""MBPP's own repository at a fixed commit."""

_FENCE = "```"
_STOP_WORDS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/")
_FIRST, _LAST = 10, 510


class Mbpp:
    """The test split; the ten rows before it are the few-shot examples of the paper."""

    name: str = "mbpp"
    tasks: tuple[Task, ...] = (Task("mbpp", "mbpp", "python"),)
    scored: bool = True

    def rows_files(self, task: Task) -> tuple[str, ...]:
        """One file with all rows, by itself or in a folder of its name."""
        return ("mbpp.jsonl", "mbpp/mbpp.jsonl", "mbpp/data/mbpp.jsonl")

    def origin(self, task: Task) -> WebFile:
        """The authors' repository."""
        return WebFile(URL)

    def questions(self, task: Task, count: int) -> range:
        """Rows 10 to 509."""
        return range(min(_FIRST, count), min(_LAST, count))

    def official_count(self, task: Task) -> int:
        """500."""
        return _LAST - _FIRST

    def fields(self, task: Task) -> Mapping[str, type]:
        """The sentence, the solution and the tests."""
        return {"text": str, "code": str, "task_id": int, "test_list": list}

    def task_id(self, row: Row) -> str:
        """``MBPP/11``, say."""
        return f"MBPP/{row['task_id']}"

    def parts(self, task: Task, row: Row) -> Parts:
        """A doc-string with the sentence and the first test."""
        text = f'"""\n{row["text"]}\n{row["test_list"][0]}\n"""\n'
        return Parts(text=text, ask=text, code="")

    def chat_by_reference(self, task: Task) -> bool:
        """The reference asks as a user turn."""
        return True

    def stop_rule(self, task: Task, eos: Sequence[str]) -> StopRule:
        """Stop words only."""
        return StopRule((*_STOP_WORDS, *dict.fromkeys(eos)))

    def cuts_after_stop(self, task: Task) -> bool:
        """A code fence after a stop word would be taken for the answer."""
        return True

    def stored(self, task: Task, row: Row, rest: str, rule: StopRule) -> str:
        """The doc-string and the block of code that answers it."""
        code = "".join(_fenced(rest) if _FENCE in rest else _definitions(rest))
        found = [at for word in rule.words if (at := code.find(word)) >= 0]
        return self.parts(task, row).text + code[: min(found, default=len(code))]

    def ideal(self, task: Task, row: Row) -> str:
        """The row's code; in a fence where plain text would lose imports or classes."""
        code = str(row["code"]).replace("\r\n", "\n").strip("\n") + "\n"
        plain = code.startswith("def ") and "".join(_definitions(code)).rstrip() == code.rstrip()
        return code if plain else f"{_FENCE}\n{code}{_FENCE}\n"


def _fenced(text: str) -> Iterator[str]:
    """The lines inside the first code fence that opens at the start of a line."""
    lines = iter(text.split("\n"))
    for line in lines:
        if line.startswith(_FENCE):
            break
    for line in lines:
        body = line.rstrip()
        if body.endswith(_FENCE):
            yield body[: -len(_FENCE)] + "\n"
            return
        yield line + "\n"


def _definitions(text: str) -> Iterator[str]:
    """The lines from the first ``def`` up to other code at the left margin."""
    inside = False
    for line in text.split("\n"):
        starts = line.startswith("def ") if not inside else line.startswith("def")
        if inside and line and not line[0].isspace() and not starts:
            return
        inside = inside or starts
        if inside:
            yield line + "\n"


MBPP = Mbpp()

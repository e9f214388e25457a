"""Questions into the exact text that the model sees.

A format is a named choice of the markers around a question. ``reference`` is the competition's own:
none for HumanEvalPack, a user turn without the last newline for mbpp. ``chatml`` is the template
that training produced, which a fine-tuned model wants.
"""

from dataclasses import dataclass
from typing import Literal

from runners.benchmarks.rows import Question
from runners.benchmarks.tasks import benchmark_of, get_task

Format = Literal["reference", "chatml"]
CodePrefix = Literal["user", "answer"]

_START, _END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class PromptStyle:
    """How questions are put: the format, the system message, and where the code to complete goes.

    ``code_prefix`` matters to ``chatml`` only, and to questions that hold code to complete: it
    stands in the user turn, or begins the answer.
    """

    format: Format = "reference"
    system: str = ""
    code_prefix: CodePrefix = "user"


REFERENCE = PromptStyle()


@dataclass(frozen=True)
class Prompt:
    """The text that the model sees: ``prefix + body + suffix + opening``.

    ``opening`` begins the answer; it is empty unless the style puts the code there.
    """

    prefix: str
    body: str
    suffix: str
    opening: str = ""

    @property
    def text(self) -> str:
        """The whole text."""
        return self.prefix + self.body + self.suffix + self.opening


def prompt(question: Question, style: PromptStyle = REFERENCE) -> Prompt:
    """The prompt of a question in a style."""
    task = get_task(question.task)
    benchmark = benchmark_of(question.task)
    parts = benchmark.parts(task, question.row)
    if style.format == "chatml":
        prefix = _system(style.system) if style.system else ""
        prefix += f"{_START}user\n"
        suffix = f"{_END}\n{_START}assistant\n"
        if style.code_prefix == "answer" and parts.code:
            return Prompt(prefix, _ended(parts.ask), suffix, _ended(parts.code))
        return Prompt(prefix, _ended(parts.text), suffix)
    if benchmark.chat_by_reference(task):
        prefix = f"{_system(style.system)}{_START}user\n"
        return Prompt(prefix, _ended(parts.text), f"{_END}\n{_START}assistant")
    return Prompt("", _ended(parts.text), "")


def _system(message: str) -> str:
    return f"{_START}system\n{message}{_END}\n"


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"

"""From what a model wrote to the generation that is stored and scored.

The steps that all benchmarks share: markers and end tokens are taken out, the question's text is
dropped, and the benchmark's own cut does the rest.
"""

from collections.abc import Sequence

from runners.benchmarks.family import StopRule
from runners.benchmarks.prompts import REFERENCE, PromptStyle, prompt
from runners.benchmarks.rows import Question
from runners.benchmarks.stopping import first_stop
from runners.benchmarks.tasks import benchmark_of, get_task

EOS = "<|im_end|>"
"""The end token of a fine-tuned model."""


def stop_rule(task: str, eos: Sequence[str] = (EOS,)) -> StopRule:
    """The stop rule of a task; ``eos`` are the texts of the end tokens."""
    return benchmark_of(task).stop_rule(get_task(task), eos)


def cut_at_stop(task: str, completion: str, *, eos: Sequence[str] = (EOS,)) -> str:
    """A completion that a server did not stop at once, cut where our engine would have stopped.

    Only where text after the stop changes the result; elsewhere the completion comes back whole.
    """
    if not benchmark_of(task).cuts_after_stop(get_task(task)):
        return completion
    return completion[: first_stop(stop_rule(task, eos), completion)]


def postprocess(
    question: Question,
    completion: str,
    style: PromptStyle = REFERENCE,
    *,
    eos: Sequence[str] = (EOS,),
) -> str:
    """The generation to store for ``completion``, the raw text after the prompt.

    Special tokens are expected as text in ``completion``.
    """
    task = get_task(question.task)
    benchmark = benchmark_of(question.task)
    parts, asked = benchmark.parts(task, question.row), prompt(question, style)
    text = asked.text[len(asked.prefix) :] + completion
    if asked.suffix:
        text = text.replace(asked.suffix, "\n")
    for token in eos:
        text = text.replace(token, "")
    before = len(asked.body) + 1 + len(parts.code) if asked.opening else len(parts.text)
    return benchmark.stored(task, question.row, text[before:], benchmark.stop_rule(task, eos))

"""A benchmark of our own in the schema of the real ones: two easy questions for each task.

It is package data, so that the whole way from training to a submission can be walked on any
machine, without a download. The rows are short on purpose: a model of a few layers can learn the
answers by heart in a minute. ``ideal_answers`` says what there is to learn, in exactly the text
that generation will ask and post-processing will cut.
"""

from dataclasses import dataclass
from pathlib import Path

from runners.benchmarks.prompts import Prompt, PromptStyle, prompt
from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS, benchmark_of, get_task


def demo_benchmarks() -> Path:
    """The folder of the demo benchmark, in the layout that ``--benchmarks`` takes."""
    return Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """A question as asked, and the completion that is stored as its row's own solution.

    ``prompt.text + completion`` is what the model sees and should write, without the end token.
    """

    task: str
    index: int
    prompt: Prompt
    completion: str

    @property
    def user(self) -> str:
        """The content of the user turn of a chat record that teaches this answer."""
        return self.prompt.body

    @property
    def bot(self) -> str:
        """The content of the answer turn."""
        return self.prompt.opening + self.completion


def ideal_answers(style: PromptStyle, folder: Path | None = None) -> list[Answer]:
    """The ideal answer to every question of a benchmark folder, the demo's by default.

    Trained with ``chatml``, a record of ``Answer.user`` and ``Answer.bot`` gives token for token
    what generation in that style will show the model.
    """
    folder = folder if folder is not None else demo_benchmarks()
    return [
        Answer(
            task,
            question.index,
            prompt(question, style),
            benchmark_of(task).ideal(get_task(task), question.row),
        )
        for task in TASKS
        for question in load_questions(folder, task)
    ]

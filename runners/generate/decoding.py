"""How tokens are chosen and when a row ends: the settings, apart from any engine's machinery."""

from dataclasses import dataclass

from runners.benchmarks.family import StopRule
from runners.benchmarks.postprocess import stop_rule
from runners.benchmarks.tasks import benchmark_of, get_task
from runners.config import GenerateConfig


@dataclass(frozen=True)
class Decoding:
    """The settings of a generation that decide which tokens come out.

    ``max_length`` counts prompt and completion together. ``eos`` is the end token's text and
    ``eos_id`` its number (None where no tokenizer is at hand). ``repetition_penalty`` is the
    checkpoint's own, which holds under greedy decoding too.
    """

    max_length: int
    eos: str
    eos_id: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop_early: bool = True
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, config: GenerateConfig, eos: str) -> "Decoding":
        """The settings that a config asks for."""
        return cls(
            max_length=config.max_length,
            eos=eos,
            do_sample=config.do_sample,
            temperature=config.temperature,
            top_p=config.top_p,
            seed=config.seed,
            stop_early=config.stop_early,
        )

    def rule(self, task: str) -> StopRule | None:
        """The stop rule that rows of a task end at; None where they run on to their limit.

        Without early stopping, rows still end where text after the stop would change the result.
        """
        if self.stop_early or benchmark_of(task).cuts_after_stop(get_task(task)):
            return stop_rule(task, (self.eos,))
        return None

"""What an evaluation job is asked to do."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from runners.config.base import JobConfig, StrList, required, setting


class EvaluateConfig(JobConfig):
    """One evaluation of a folder of generations."""

    kind: ClassVar[str] = "evaluate"

    generations: Path = required("input", "The folder generations_{model}.")
    tasks: StrList = setting([], "input", "Tasks to score; all that are there by default.")
    benchmarks: Path | None = setting(
        None, "input", "Benchmark folder; the imported one by default."
    )
    sandbox: Literal["bwrap", "docker", "none"] = setting(
        "bwrap", "sandbox", "What keeps the programs away from this machine."
    )
    i_understand: bool = setting(
        False, "sandbox", "Second consent that sandbox=none needs: programs run as you."
    )
    memory_mb: int = setting(4096, "sandbox", "Memory limit of a program, MiB.", ge=64)
    processes: int = setting(256, "sandbox", "Most processes and threads of a program.", ge=1)
    docker_image: str = setting("mft-tui-sandbox", "sandbox", "sandbox=docker: the image.")
    jobs: int | None = setting(None, "run", "Programs at once; one a core by default.", ge=1)
    way: Literal["fast", "plain"] = setting(
        "fast", "run", "fast: warm compilers and prebuilt parts; plain: as the reference does."
    )
    strict: bool = setting(
        False, "run", "Demand that the tests ran to their end: an early exit 0 does not pass."
    )
    pass_k: list[int] = setting([1], "run", "The k of each pass@k to report.")
    output_dir: Path | None = setting(
        None, "output", "Folder that gets metrics_{model}; the run's artifacts by default."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.sandbox == "none" and not self.i_understand:
            raise ValueError(
                "sandbox=none runs untrusted programs as you, with your files: "
                "it needs i_understand=true as well"
            )
        return self

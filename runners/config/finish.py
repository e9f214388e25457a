"""The short jobs after training: merge an adapter, convert a checkpoint, export a submission."""

from pathlib import Path
from typing import ClassVar, Literal

from runners.config.base import JobConfig, required, setting


class MergeConfig(JobConfig):
    """Adapter and base into one plain transformers checkpoint."""

    kind: ClassVar[str] = "merge"

    adapter: Path = required("input", "The adapter's folder.")
    base: str | None = setting(None, "input", "Base model, if not the one the adapter names.")
    output_dir: Path = required("output", "Folder for the merged checkpoint.")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "output", "Type of the merged weights; the base's own by default."
    )


class ConvertConfig(JobConfig):
    """A first-generation checkpoint into the native transformers format."""

    kind: ClassVar[str] = "convert"

    model: Path = required("input", "The checkpoint: Qwen v1, ChatGLM2 or Baichuan.")
    output_dir: Path = required("output", "Folder for the converted checkpoint.")


class ExportConfig(JobConfig):
    """A folder of generations into a submission zip."""

    kind: ClassVar[str] = "export"

    generations: Path = required("input", "The folder generations_{model}.")
    output: Path | None = setting(
        None, "output", "The zip; generations_{model}.zip in the run's artifacts by default."
    )
    benchmarks: Path | None = setting(
        None, "input", "Benchmark folder whose question counts hold; the competition's by default."
    )

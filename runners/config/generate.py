"""What a generation job is asked to do."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator

from runners.config.base import JobConfig, StrList, required, setting

_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)),
}
_FORBIDDEN = set('/\\:*?"<>| \t\r\n\0')


def checked_model_name(name: str) -> str:
    """Return ``name`` if file names and the zip can carry it. Raises ``ValueError`` otherwise."""
    if not name or name in {".", ".."}:
        raise ValueError("a model name cannot be empty")
    if bad := sorted({c for c in name if c in _FORBIDDEN or not c.isprintable()}):
        raise ValueError(
            f"the model name {name!r} holds {', '.join(map(repr, bad))}, which the file names of a "
            "submission cannot carry: use letters, digits, '-', '_' and '.'"
        )
    if not name.isascii():
        raise ValueError(f"the model name {name!r} must be ASCII, because zip readers differ")
    if len(name) > 120:
        raise ValueError("the model name is longer than 120 characters")
    # Unpacked on Windows, the folder would lose its dots, or be a device.
    if name.endswith(".") or name.partition(".")[0].upper() in _DEVICES:
        raise ValueError(
            f"the model name {name!r} is not one that a folder can have on every system: choose "
            "one that ends in a letter or digit and is no device"
        )
    return name


ModelName = Annotated[str, AfterValidator(checked_model_name)]


class GenerateConfig(JobConfig):
    """One generation run over the benchmark tasks."""

    kind: ClassVar[str] = "generate"

    model: str | None = setting(
        None, "model", "Checkpoint folder or hub name; an adapter folder is loaded on its base."
    )
    model_name: ModelName = required("model", "Name in the file names of the submission.")
    adapter: str | None = setting(None, "model", "Adapter folder to load on the model.")
    adapter_mode: Literal["merged", "unmerged"] = setting(
        "merged",
        "model",
        "An adapter is merged into the weights, which is faster, or kept beside them, which rounds "
        "less in bf16. Quantized weights always keep it beside them.",
    )
    quantization: Literal["4bit", "8bit"] | None = setting(None, "model", "Load quantized.")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "model", "auto: bf16 on a GPU that has it, float32 on CPU."
    )
    use_cpu: bool = setting(False, "model", "Generate on CPU even where there is a GPU.")

    tasks: StrList = setting([], "tasks", "Tasks to answer; all 13 by default.")
    benchmarks: Path | None = setting(
        None, "tasks", "Benchmark folder; the imported one by default."
    )
    limit: int | None = setting(None, "tasks", "Only the first N questions of each task.", ge=1)
    format: Literal["reference", "chatml"] = setting(
        "reference",
        "tasks",
        "reference: the competition's prompt text; chatml: the template that training used.",
    )
    system_prompt: str = setting("", "tasks", "System message of the chat formats.")
    code_prefix: Literal["user", "answer"] = setting(
        "user",
        "tasks",
        "chatml: the code to complete stands in the user turn, or begins the answer.",
    )

    engine: Literal["transformers", "openai", "completions"] = setting(
        "transformers", "engine", "What turns prompts into completions."
    )
    completions: Path | None = setting(
        None, "engine", "engine=completions: JSONL of {task, index, completion}."
    )
    base_url: str = setting(
        "http://127.0.0.1:8000/v1", "engine", "engine=openai: the server's address."
    )
    api_key_variable: str = setting(
        "OPENAI_API_KEY", "engine", "engine=openai: the environment variable that holds the key."
    )
    served_model: str | None = setting(
        None, "engine", "engine=openai: the model's name on the server, if not model_name."
    )
    concurrency: int = setting(32, "engine", "engine=openai: requests at once.", ge=1)
    request_timeout: float = setting(600.0, "engine", "engine=openai: seconds a request.", gt=0)
    batch_size: int | None = setting(
        None, "engine", "Questions at once; chosen from memory by default.", ge=1
    )
    batching: Literal["auto", "padded", "continuous"] = setting(
        "auto",
        "engine",
        "engine=transformers: padded batches, or transformers' continuous batching (greedy only); "
        "auto: continuous on a GPU.",
    )
    num_processes: int | None = setting(
        None, "engine", "Ranks, each with its own copy of the model; one a GPU by default.", ge=1
    )

    max_length: int = setting(2000, "decoding", "Most tokens in all, prompt included.", ge=16)
    eos_token: str | None = setting(
        None, "decoding", "End token; <|im_end|> if the tokenizer has it, else its own."
    )
    do_sample: bool = setting(False, "decoding", "Sample; a submission must be greedy.")
    temperature: float = setting(0.2, "decoding", "Sampling temperature.", gt=0)
    top_p: float = setting(0.95, "decoding", "Nucleus sampling mass.", gt=0, le=1)
    num_samples: int = setting(1, "decoding", "Samples a question; a submission has one.", ge=1)
    stop_early: bool = setting(
        True, "decoding", "End a row at the token where its stop rule holds, not at its limit."
    )
    seed: int = setting(999999999, "decoding", "Seed of sampling.")

    output_dir: Path | None = setting(
        None, "output", "Folder that gets generations_{model}; the run's artifacts by default."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.engine == "completions":
            if self.completions is None:
                raise ValueError("engine=completions needs completions=FILE")
        elif self.engine == "transformers" and not self.model:
            raise ValueError("engine=transformers needs model=PATH")
        if self.num_samples > 1 and not self.do_sample:
            raise ValueError("num_samples above 1 needs do_sample=true")
        return self

"""What a job reads: which config keys name inputs, and what kind of thing each one is.

The kinds are the words of ``--allow-drift``: dataset, model, tokenizer, adapter, checkpoint,
benchmarks, generations, completions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runners.config import JobConfig
from runners.errors import MissingInputError

_KEYS: dict[str, dict[str, str]] = {
    "train": {
        "data_paths": "dataset",
        "pretrained_model_path": "model",
        "resume_from_checkpoint": "checkpoint",
    },
    "merge": {"adapter": "adapter", "base": "model"},
    "convert": {"model": "model"},
    "generate": {
        "model": "model",
        "adapter": "adapter",
        "benchmarks": "benchmarks",
        "completions": "completions",
    },
    "evaluate": {"generations": "generations", "benchmarks": "benchmarks"},
    "export": {"generations": "generations", "benchmarks": "benchmarks"},
}

_NEEDS_BENCHMARKS = frozenset({"generate", "evaluate"})

_HUB_KEYS = frozenset({"pretrained_model_path", "base", "model", "adapter"})
"""Keys that may also hold the name of a repository on the hub."""

TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "qwen.tiktoken",
        "chat_template.jinja",
    }
)


@dataclass(frozen=True)
class Input:
    """One thing a job reads: ``role`` as in ``--allow-drift``, ``key`` of the config.

    ``path`` is None for a repository on the hub, which ``hub`` then names.
    """

    role: str
    key: str
    path: Path | None
    hub: str | None = None

    @property
    def shown(self) -> str:
        """How a person would name it."""
        return str(self.path) if self.path else f"{self.hub} on the hub"


def inputs_of(config: JobConfig) -> list[Input]:
    """The inputs that ``config`` names, in the order of its keys.

    Raises ``MissingInputError`` for a local one that is not there.
    """
    return list(_inputs(config))


def _inputs(config: JobConfig) -> Iterator[Input]:
    for key, role in _KEYS.get(config.kind, {}).items():
        value = getattr(config, key, None)
        if value is None and key == "benchmarks" and config.kind in _NEEDS_BENCHMARKS:
            from runners.benchmarks.rows import resolve_benchmarks

            value = resolve_benchmarks(None)
        if not value or (key in {"model", "adapter"} and _elsewhere(config)):
            continue
        for item in value if isinstance(value, list) else [value]:
            yield _input(role, key, item)


def _elsewhere(config: JobConfig) -> bool:
    """True when the model is behind a server, or its completions were made already."""
    return getattr(config, "engine", "transformers") != "transformers"


def _input(role: str, key: str, value: Path | str) -> Input:
    path = Path(value).expanduser().absolute()
    if path.exists():
        return Input(role, key, path)
    if key in _HUB_KEYS and looks_like_hub_name(str(value)):
        return Input(role, key, None, hub=str(value))
    raise MissingInputError(
        f"{key} names {value}, which is not there", where=key, fix="Check the path."
    )


def looks_like_hub_name(name: str) -> bool:
    """True for ``owner/name`` as the hub has them, which no absolute or dotted path is."""
    parts = name.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)

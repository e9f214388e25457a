"""What a set of completions is made with, beyond its settings: content behind a path, the dtype.

A checkpoint that was trained again has the name of the one before, and ``auto`` is another dtype on
another machine. A set is continued only by what began it, so both are written down. Weights are
read once: whoever started the run has left their hashes in the cache of the state folder.
"""

import hashlib
from pathlib import Path

import msgspec

from runners.config import GenerateConfig
from runners.errors import MissingInputError
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.hashing import HashCache
from runners.lifecycle.provenance import hub_revision

_DECISIVE = frozenset(
    {".safetensors", ".bin", ".pt", ".json", ".model", ".txt", ".tiktoken", ".jinja", ".py"}
)
"""Suffixes of the files in a checkpoint's folder that tokens depend on; a README is none."""


def made_with(config: GenerateConfig, cache: HashCache | None = None) -> dict[str, str]:
    """Digests of the checkpoints that a config names, or their commits on the hub, and the dtype.

    A key is missing where it cannot be known: a server's model, a repository not downloaded yet.
    Raises ``MissingInputError`` for a file that cannot be read.
    """
    if config.engine != "transformers" or config.model is None:
        return {}
    cache = cache if cache is not None else HashCache(StateFolder.default().hashes)
    found: dict[str, str] = {}
    for key, place in (
        ("model", config.model),
        ("adapter", config.adapter),
        ("base of the adapter", _base_of(config)),
    ):
        if place is not None and (content := _content(place, cache)) is not None:
            found[key] = content
    found["dtype"] = _dtype(config)
    return found


def _base_of(config: GenerateConfig) -> str | None:
    """The base that a model folder names if it is an adapter itself."""
    assert config.model is not None
    described = Path(config.model).expanduser() / "adapter_config.json"
    if config.adapter is not None or not described.is_file():
        return None
    try:
        base = msgspec.json.decode(described.read_bytes()).get("base_model_name_or_path")
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError) as error:
        raise MissingInputError(
            f"the adapter's description cannot be read ({error})", where=str(described)
        ) from error
    return str(base) if base else None


def _content(place: str, cache: HashCache) -> str | None:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        return hub_revision(place)
    # Not what lies in folders below: runs of their own may be there, generations among them.
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix in _DECISIVE)
    whole = hashlib.sha256()
    for file in files:
        try:
            digest = cache.hash_path(file).sha256
        except OSError as error:
            raise MissingInputError(
                f"the file cannot be read ({error.strerror})", where=str(file)
            ) from error
        whole.update(f"{file.name}\0{digest}\n".encode())
    return whole.hexdigest()


def _dtype(config: GenerateConfig) -> str:
    from runners.generate.loading import device_of, dtype_of

    return str(dtype_of(config, device_of(config))).removeprefix("torch.")

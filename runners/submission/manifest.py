"""How a set of generations was made: ``generation_{model}.json`` beside the generations.

Generation writes it and export reads it, so it lives with the side that decides what it must say.
"""

from pathlib import Path

import msgspec

from runners.errors import UsageError


class BenchmarkFile(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark file that was asked from; ``verdict`` as ``fingerprints.FileReport`` gives it."""

    sha256: str
    verdict: str


class TaskCount(msgspec.Struct, frozen=True, kw_only=True):
    """Questions of a task: ``asked`` in this set, ``total`` in the benchmark."""

    asked: int
    total: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of generations is.

    ``settings`` are those that decide the text of the completions; a set is only ever continued
    with the same ones. ``made_with`` is what paths and ``auto`` stood for: digests of checkpoints,
    the dtype; a key is missing where it was not known. ``breaks_rules`` says, one sentence each,
    why the set cannot be submitted.
    """

    model_name: str
    settings: dict[str, object]
    benchmark: dict[str, BenchmarkFile]
    tasks: dict[str, TaskCount]
    made_with: dict[str, str] = {}
    breaks_rules: list[str] = []


def manifest_path(folder: Path, model_name: str) -> Path:
    """Where the manifest of a generations folder is."""
    return folder / f"generation_{model_name}.json"


def read_manifest(folder: Path, model_name: str) -> Manifest | None:
    """The manifest of a folder, or None when it has none (made by another program).

    Raises ``UsageError`` when the file is damaged.
    """
    path = manifest_path(folder, model_name)
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the manifest is damaged ({error})",
            where=str(path),
            fix="Remove it if the generations were made elsewhere; else generate again.",
        ) from None

"""The engine for completions made elsewhere: a JSONL file of {task, index, completion}."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from runners.errors import MissingInputError, RefusedError, UsageError
from runners.generate.engine import Completion, Pool, Request


def read_completions(path: Path) -> dict[tuple[str, int, int], Completion]:
    """The completions of a file by (task, index, sample).

    A further line for the same question is its next sample, unless it says which sample it is.
    Raises ``MissingInputError`` or ``UsageError`` (file:line).
    """
    if not path.is_file():
        raise MissingInputError("there is no completions file here", where=str(path))
    found: dict[tuple[str, int, int], Completion] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            completion = msgspec.json.decode(line, type=Completion)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"this line is no completion ({error})",
                where=f"{path}:{number}",
                fix='Each line is {"task": …, "index": …, "completion": …}.',
            ) from None
        while completion.key in found:
            completion = msgspec.structs.replace(completion, sample=completion.sample + 1)
        found[completion.key] = completion
    return found


def require_same(path: Path, done: Mapping[tuple[str, int, int], Completion], folder: Path) -> None:
    """Raise ``RefusedError`` if completions that were taken from the file are not in it any more.

    The file may have grown: that is how a set that lacked questions is completed.
    """
    now = read_completions(path)
    changed = [
        f"{task} {index}"
        for (task, index, sample), completion in done.items()
        if (there := now.get((task, index, sample))) is None
        or there.completion != completion.completion
    ]
    if changed:
        more = " …" if len(changed) > 8 else ""
        raise RefusedError(
            f"{len(changed)} completions that were taken from {path} before are others there now, "
            f"or gone: {', '.join(changed[:8])}{more}",
            where=str(folder),
            fix="Choose another output folder or model name, or remove this folder.",
        )


class RecordedEngine:
    """Hands out the completions of a file, as they are; questions it lacks stay unanswered."""

    def __init__(self, path: Path, eos: str) -> None:
        self._completions = read_completions(path)
        self.eos = eos

    def prepared(self, requests: list[Request]) -> list[Request]:
        """As they are; see ``Engine``."""
        return requests

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer what the file answers; see ``Engine``."""
        while requests := pool.take(256):
            for request in requests:
                if completion := self._completions.get(request.key):
                    yield completion

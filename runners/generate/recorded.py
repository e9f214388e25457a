"""The engine for completions made elsewhere: a JSONL file of {task, index, completion}."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from runners.errors import MissingInputError, UsageError
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

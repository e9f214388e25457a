"""One row of a batch: what it has generated, and whether it is over."""

import time

from runners.benchmarks.stopping import StopChecker, reason
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Finish, Request
from runners.generate.token_text import TokenText


class RowState:
    """A request being answered, token by token; shared by the engines that see tokens."""

    __slots__ = (
        "_checker",
        "_decoding",
        "_eos",
        "_stream",
        "_text",
        "generated",
        "request",
        "started",
    )

    def __init__(self, request: Request, decoding: Decoding, text: TokenText) -> None:
        self.request = request
        self.generated: list[int] = []
        self.started = time.monotonic()
        rule = decoding.rule(request.task)
        self._checker = StopChecker(rule) if rule is not None else None
        self._stream = text.stream(request.ids) if rule is not None else None
        self._decoding = decoding
        self._text = text
        self._eos = decoding.eos_id

    @property
    def room(self) -> int:
        """How many more tokens the row may have."""
        used = len(self.request.ids) + len(self.generated)
        return max(0, self._decoding.max_length - used)

    def push(self, token: int) -> Finish | None:
        """Add a generated token; why the row is over with it, or None."""
        self.generated.append(token)
        if token == self._eos:
            return "eos"
        if self._checker is not None and self._stream is not None:
            final, tentative = self._stream.push(token)
            # Each is asked: text that is final may hold the rule though what follows undoes it.
            if self._checker.feed(final) or (tentative and self._checker.holds_with(tentative)):
                return "rule"
        return "length" if self.room == 0 else None

    def finished(self, finish: Finish) -> Completion:
        """The completion that the row has become."""
        request = self.request
        text = self._text.completion(request.ids, self.generated)
        rule = self._decoding.rule(request.task)
        return Completion(
            task=request.task,
            index=request.index,
            sample=request.sample,
            completion=text,
            finish=finish,
            tokens=len(self.generated),
            stop=reason(rule, text) if finish == "rule" and rule is not None else None,
            seconds=round(time.monotonic() - self.started, 4),
            at=round(time.time(), 3),
        )

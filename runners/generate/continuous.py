"""The transformers engine on a GPU: continuous batching with a paged cache and CUDA graphs.

transformers' own scheduler keeps every slot busy; this module feeds it from the pool, watches each
row's tokens as they stream out, and cancels a row at the token where its stop rule holds.
"""

from collections.abc import Iterator
from typing import Any

from transformers import GenerationConfig

from runners.errors import JobFailedError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.rows import RowState
from runners.generate.token_text import TokenText

_POLL_SECONDS = 0.5


class ContinuousEngine:
    """Keeps up to ``rows`` requests in the scheduler; greedy decoding only."""

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, *, rows: int) -> None:
        self._model = model
        self._text = TokenText(tokenizer)
        self._decoding = decoding
        self._rows = rows

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``.

        Raises ``JobFailedError`` when the scheduler ends or fails a request.
        """
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._decoding.max_length,
            eos_token_id=self._decoding.eos_id,
            pad_token_id=self._decoding.eos_id,
            repetition_penalty=self._decoding.repetition_penalty,
        )
        opened = self._model.continuous_batching_context_manager(
            generation_config=settings, block=True, timeout=5
        )
        with opened as manager:
            yield from self._drive(manager, pool)

    def _drive(self, manager: Any, pool: Pool) -> Iterator[Completion]:
        rows: dict[str, RowState] = {}
        number = 0
        while True:
            for request in pool.take(self._rows - len(rows)):
                name = f"row-{number}"
                number += 1
                rows[name] = RowState(request, self._decoding, self._text)
                self._submit(manager, name, request)
            if not rows or pool.stopping:
                return
            result = manager.get_result(timeout=_POLL_SECONDS)
            if result is None:
                if not manager.is_running():
                    raise JobFailedError("continuous batching ended by itself")
                continue
            row = rows.get(result.request_id)
            if row is None:
                # A cancelled row may still report what was in flight.
                continue
            if result.error is not None:
                raise JobFailedError(f"continuous batching failed a request: {result.error}")
            if completion := self._advance(row, result):
                del rows[result.request_id]
                if not result.is_finished():
                    manager.cancel_request(result.request_id)
                yield completion

    def _submit(self, manager: Any, name: str, request: Request) -> None:
        manager.add_request(
            list(request.ids),
            request_id=name,
            max_new_tokens=self._decoding.max_length - len(request.ids),
            streaming=True,
            eos_token_id=self._decoding.eos_id,
        )

    def _advance(self, row: RowState, result: Any) -> Completion | None:
        for token in result.generated_tokens[len(row.generated) :]:
            if finish := row.push(int(token)):
                return row.finished(finish)
        # The scheduler may end a row for a reason of its own; that is a length, not an answer.
        return row.finished("length") if result.is_finished() else None


def supports(model: Any, decoding: Decoding) -> bool:
    """Whether continuous batching can run this: greedy, without penalty, a model that has it."""
    return (
        not decoding.do_sample
        and decoding.repetition_penalty == 1.0
        and hasattr(model, "continuous_batching_context_manager")
    )

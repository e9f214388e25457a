"""The transformers engine on a GPU: continuous batching with a paged cache and CUDA graphs.

transformers' own scheduler keeps every slot busy; this module feeds it from the pool, watches each
row's tokens as they stream out, and cancels a row at the token where its stop rule holds. It runs
on a CPU too, with the same tokens, only slower than padded batches.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.utils import WorkloadHints

from runners.errors import JobFailedError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.rows import RowState
from runners.generate.token_text import TokenText

_POLL_SECONDS = 0.5
_STOP_SECONDS = 5.0
_PAGE = 64
"""Tokens of a page of the cache on a CPU."""
_CPU_BATCH_TOKENS = 1024


class CannotStartError(Exception):
    """Continuous batching did not come up: no kernel, no memory, no graph. Nothing was taken."""


class ContinuousEngine:
    """Keeps up to ``rows`` requests in the scheduler; greedy decoding only."""

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, *, rows: int) -> None:
        self._model = model
        self._text = TokenText(tokenizer)
        self._decoding = decoding
        self._rows = rows

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``.

        Raises ``CannotStartError`` before anything is taken from the pool, and ``JobFailedError``
        when the scheduler ends or fails a request.
        """
        with contextlib.ExitStack() as stack:
            manager = self._started(stack)
            yield from self._drive(manager, pool)

    def _started(self, stack: contextlib.ExitStack) -> Any:
        decoding, attention = self._decoding, self._model.config._attn_implementation
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=decoding.max_length,
            eos_token_id=decoding.eos_id,
            pad_token_id=decoding.eos_id,
            repetition_penalty=decoding.repetition_penalty,
        )
        try:
            return stack.enter_context(
                self._model.continuous_batching_context_manager(
                    generation_config=settings,
                    block=True,
                    timeout=_STOP_SECONDS,
                    continuous_batching_config=self._sizes(),
                    workload_hints=WorkloadHints(decoding.max_length, decoding.max_length),
                )
            )
        except Exception as error:
            # Kernels, graphs and allocators each fail in a way of their own.
            self._model.set_attn_implementation(attention)
            raise CannotStartError(f"{type(error).__name__}: {error}") from error

    def _sizes(self) -> ContinuousBatchingConfig:
        """A GPU's memory decides the size of its cache; on a CPU it is what the rows need."""
        if self._model.device.type == "cuda":
            return ContinuousBatchingConfig(max_requests_per_batch=self._rows)
        pages = -(-self._decoding.max_length // _PAGE) + 1
        return ContinuousBatchingConfig(
            max_requests_per_batch=self._rows,
            page_size=_PAGE,
            num_blocks=pages * self._rows,
            max_batch_tokens=_CPU_BATCH_TOKENS,
        )

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
                    raise JobFailedError(
                        f"continuous batching ended by itself{_reason(manager)}",
                        fix="Run it again with batching=padded: it goes on where it was.",
                    )
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


def _reason(manager: Any) -> str:
    error = getattr(getattr(manager, "background_thread_status", None), "fatal_error", None)
    return f" ({error})" if error else ""


def supports(model: Any, decoding: Decoding) -> bool:
    """Whether continuous batching can run this: greedy, without penalty, a model that has it."""
    return (
        not decoding.do_sample
        and decoding.repetition_penalty == 1.0
        and hasattr(model, "continuous_batching_context_manager")
    )

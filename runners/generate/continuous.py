"""The transformers engine on a GPU: continuous batching with a paged cache and CUDA graphs.

transformers' own scheduler keeps every slot busy; this module feeds it from the pool, watches each
row's tokens as they stream out, and cancels a row at the token where its stop rule holds. It runs
on a CPU too, with the same tokens, only slower than padded batches.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.utils import WorkloadHints
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.rows import RowState
from runners.generate.token_text import TokenText

_POLL_SECONDS = 0.5
_PAGE = 64
"""Tokens of a page of the cache on a CPU."""
_CPU_BATCH_TOKENS = 1024


class GaveUpError(Exception):
    """Continuous batching did not come up, or broke down: no kernel, no memory, no graph.

    ``unfinished`` are the requests that it has taken from the pool and not answered.
    """

    def __init__(self, reason: str, unfinished: Sequence[Request] = ()) -> None:
        super().__init__(reason)
        self.unfinished = tuple(unfinished)


class ContinuousEngine:
    """Keeps up to ``rows`` requests in the scheduler; greedy decoding only."""

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, *, rows: int) -> None:
        self._model = model
        self._text = TokenText(tokenizer)
        self._decoding = decoding
        self._rows = rows

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``.

        Raises ``GaveUpError`` when the scheduler does not come up, ends, or fails a request.
        """
        manager = self._started()
        try:
            yield from self._drive(manager, pool)
        finally:
            # At once: otherwise every row in flight would first run on to its limit.
            manager.stop(block=True, hard_stop=True)
            manager.destroy()

    def _started(self) -> Any:
        decoding, attention = self._decoding, self._model.config._attn_implementation
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=decoding.max_length,
            eos_token_id=decoding.eos_id,
            pad_token_id=decoding.eos_id,
            repetition_penalty=decoding.repetition_penalty,
        )
        try:
            manager = self._model.init_continuous_batching(
                generation_config=settings,
                continuous_batching_config=self._sizes(),
                workload_hints=WorkloadHints(decoding.max_length, decoding.max_length),
            )
            manager.warmup()
            manager.start()
            return manager
        except Exception as error:  # noqa: BLE001 - kernels, graphs, allocators: each in its own way
            reason = f"{type(error).__name__}: {error}"
        # Out of the handler, so that the new error does not hold on to the old one's frames, and
        # with them to the memory of the cache.
        self._model.set_attn_implementation(attention)
        raise GaveUpError(reason)

    def _sizes(self) -> ContinuousBatchingConfig:
        """A GPU's memory decides the size of its cache; on a CPU it is what the rows need."""
        if self._model.device.type == "cuda":
            return ContinuousBatchingConfig(
                max_requests_per_batch=self._rows,
                # Switching by itself, transformers does not look whether flash has the dtype.
                auto_switch_to_flash=has_flash_attention(self._model),
            )
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
                    raise GaveUpError(_reason(manager), _requests(rows))
                continue
            row = rows.get(result.request_id)
            if row is None:
                # A cancelled row may still report what was in flight.
                continue
            if result.error is not None:
                raise GaveUpError(str(result.error), _requests(rows))
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


def _requests(rows: dict[str, RowState]) -> list[Request]:
    return [row.request for row in rows.values()]


def _reason(manager: Any) -> str:
    error = getattr(getattr(manager, "background_thread_status", None), "fatal_error", None)
    return str(error) if error else "it ended by itself"


def hindrance(model: Any, decoding: Decoding) -> str | None:
    """Why continuous batching cannot run this, in a few words; None if it can."""
    if decoding.do_sample:
        return "it cannot sample reproducibly"
    if decoding.repetition_penalty != 1.0:
        return "the checkpoint has a repetition penalty"
    if getattr(model, "is_loaded_in_8bit", False):
        # bitsandbytes looks at values on the host to find outliers, which no graph can hold.
        return "the weights are 8-bit"
    if not hasattr(model, "init_continuous_batching"):
        return "the model does not have it"
    return None


def has_flash_attention(model: Any) -> bool:
    """Whether flash attention is here for this model: only with it are there CUDA graphs.

    Otherwise every row attends, masked, over the keys of all rows.
    """
    return (
        model.dtype in (torch.bfloat16, torch.float16)
        and bool(getattr(model, "_supports_flash_attn", False))
        and (
            is_flash_attn_3_available(kernels_fallback_ok=True)
            or is_flash_attn_2_available(kernels_fallback_ok=True)
        )
    )

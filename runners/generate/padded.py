"""The transformers engine in padded batches: one forward pass a token for many rows.

Rows of like length are padded on the left and decoded together with one key-value cache. A row that
is over leaves the batch and its cache at once, and when the batch has thinned out the next rows of
the pool join it, so that the hardware works at full width to the end. Greedy output is token for
token that of one-by-one ``model.generate`` in float32: pads are masked, positions count real tokens
only, and the repetition penalty never sees a pad.
"""

import gc
import inspect
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from runners.errors import JobFailedError
from runners.generate.choosing import generator_of, penalized, sampled
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.key_values import KeyValues, padded_left
from runners.generate.rows import RowState
from runners.generate.token_text import TokenText

_PREFILL_TOKENS = 16_384
"""Prompt tokens, pads included, that go through the model at once."""

_TRIM = 64
"""Columns that are pads in every row are dropped once there are this many."""


class PaddedEngine:
    """Decodes up to ``rows`` requests at once with a causal language model.

    ``model`` is in eval mode on its device. New rows join when at most ``refill`` of the batch is
    left. ``taken`` are requests that were taken from the pool before, and come first.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        decoding: Decoding,
        *,
        rows: int,
        refill: float = 0.75,
        taken: Sequence[Request] = (),
    ) -> None:
        self._model = model
        self._text = TokenText(tokenizer)
        self._decoding = decoding
        self._rows = rows
        self._refill = refill
        self._returned = list(taken)
        accepted = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``."""
        batch: _Batch | None = None
        while True:
            width = len(batch.states) if batch is not None else 0
            fresh: list[Request] = []
            if batch is None or (batch.memory.joinable and width <= self._rows * self._refill):
                fresh = self._take(pool, self._rows - width)
            if not fresh and (batch is None or pool.stopping):
                return
            over: list[Completion] | None = None
            try:
                if fresh:
                    batch, over = self._grown(batch, fresh)
                else:
                    assert batch is not None
                    over = self._step(batch)
            except torch.OutOfMemoryError as error:
                self._halve(batch, fresh, error)
            if over is None:
                # Only here, out of the handler: the error's frames hold on to tensors.
                batch = None
                release_memory()
                continue
            yield from over
            if batch is not None and not batch.states:
                batch = None

    def _take(self, pool: Pool, count: int) -> list[Request]:
        returned, self._returned = self._returned[:count], self._returned[count:]
        return returned or pool.take(count)

    def _halve(self, batch: "_Batch | None", fresh: list[Request], error: Exception) -> None:
        """Give back what was being worked on, to be begun again in smaller batches."""
        if self._rows == 1:
            raise JobFailedError(
                "one question alone does not fit into the memory",
                where="batch_size",
                fix="Lower max_length, load the model quantized, or use a larger GPU.",
            ) from error
        active = [row.request for row in batch.states] if batch is not None else []
        # New rows may have joined the batch before memory ran out, so one can be in both lists.
        unfinished = {request.key: request for request in (*active, *fresh, *self._returned)}
        self._returned = list(unfinished.values())
        self._rows = max(1, self._rows // 2)

    @torch.inference_mode()
    def _grown(
        self, batch: "_Batch | None", fresh: list[Request]
    ) -> tuple["_Batch", list[Completion]]:
        """The batch with new rows, which have their first token; and those already over."""
        over: list[Completion] = []
        groups = list(_groups(fresh))
        for number, group in enumerate(groups, start=1):
            started = _Batch(group, self._model, self._decoding, self._text)
            over += self._advance(started, started.inputs)
            if batch is None or not batch.states:
                # A batch whose rows are all over has a cache that nothing may join any more.
                batch = started
            elif started.states:
                batch.join(started)
            if not started.memory.joinable:
                self._returned = [*chain(*groups[number:]), *self._returned]
                break
        assert batch is not None
        return batch, over

    @torch.inference_mode()
    def _step(self, batch: "_Batch") -> list[Completion]:
        return self._advance(batch, batch.last[:, None])

    def _advance(self, batch: "_Batch", inputs: Tensor) -> list[Completion]:
        """One forward pass and one token more for each row; rows that are over leave."""
        positions = batch.mask.cumsum(-1)[:, -inputs.shape[1] :] - 1
        output = self._model(
            input_ids=inputs,
            attention_mask=batch.mask,
            position_ids=positions.clamp(min=0),
            past_key_values=batch.memory.cache,
            use_cache=True,
            **self._last_only,
        )
        logits = penalized(
            output.logits[:, -1].float(), batch.seen, self._decoding.repetition_penalty
        )
        if self._decoding.do_sample:
            tokens = sampled(logits, self._decoding, batch.generators)
        else:
            tokens = logits.argmax(-1)
        return batch.push(tokens)


def release_memory() -> None:
    """Give memory back that nobody uses any more, to begin anew with less at once."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _groups(requests: list[Request]) -> Iterator[list[Request]]:
    """Requests in groups that may go through the model at once."""
    group: list[Request] = []
    longest = 0
    for request in requests:
        longest = max(longest, len(request.ids))
        if group and longest * (len(group) + 1) > _PREFILL_TOKENS:
            yield group
            group, longest = [], len(request.ids)
        group.append(request)
    yield group


class _Batch:
    """Rows being decoded together.

    ``mask`` is ``[rows, length]`` with ones for real tokens, the ones about to be read included;
    ``last`` is each row's newest token, which the cache does not hold yet.
    """

    def __init__(
        self, requests: list[Request], model: Any, decoding: Decoding, text: TokenText
    ) -> None:
        longest = max(len(request.ids) for request in requests)
        inputs = torch.zeros(len(requests), longest, dtype=torch.long)
        mask = torch.zeros_like(inputs)
        for row, request in enumerate(requests):
            inputs[row, longest - len(request.ids) :] = torch.tensor(request.ids)
            mask[row, longest - len(request.ids) :] = 1
        self.states = [RowState(request, decoding, text) for request in requests]
        self.inputs, self.mask = inputs.to(model.device), mask.to(model.device)
        self.last = self.inputs[:, -1]
        self.memory = KeyValues(model.config.get_text_config())
        self.generators = [
            generator_of(request, decoding.seed) if decoding.do_sample else torch.default_generator
            for request in requests
        ]
        self.seen: Tensor | None = None
        if decoding.repetition_penalty != 1.0:
            vocabulary = model.get_output_embeddings().weight.shape[0]
            seen = torch.zeros(len(requests), vocabulary, dtype=torch.bool)
            for row, request in enumerate(requests):
                seen[row, list(request.ids)] = True
            self.seen = seen.to(model.device)

    def push(self, tokens: Tensor) -> list[Completion]:
        """Give each row its new token; returns the completions of rows that are over."""
        over: list[Completion] = []
        staying: list[int] = []
        for number, (row, token) in enumerate(zip(self.states, tokens.tolist(), strict=True)):
            if finish := row.push(token):
                over.append(row.finished(finish))
            else:
                staying.append(number)
        self.last = tokens
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        if over:
            self._keep(staying)
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        return over

    def _keep(self, numbers: list[int]) -> None:
        rows = torch.tensor(numbers, dtype=torch.long, device=self.mask.device)
        self.states = [self.states[number] for number in numbers]
        self.generators = [self.generators[number] for number in numbers]
        self.mask, self.last = self.mask[rows], self.last[rows]
        if self.seen is not None:
            self.seen = self.seen[rows]
        if not numbers:
            return
        pads = int(self.mask.argmax(-1).min()) if self.memory.joinable else 0
        skip = pads if pads >= _TRIM else 0
        self.mask = self.mask[:, skip:]
        self.memory.select(rows, skip)

    def join(self, other: "_Batch") -> None:
        """Add the rows of another batch."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        self.mask = torch.cat([padded_left(self.mask, length), padded_left(other.mask, length)])
        self.last = torch.cat([self.last, other.last])
        self.memory.join(other.memory)
        self.states += other.states
        self.generators += other.generators
        if self.seen is not None and other.seen is not None:
            self.seen = torch.cat([self.seen, other.seen])

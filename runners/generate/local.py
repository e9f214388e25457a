"""The transformers engine for a job: load the model, tokenize the prompts, choose the way to batch.

The only module that decides between padded batches and continuous batching.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import torch

from runners.config import GenerateConfig
from runners.generate.continuous import CannotStartError, ContinuousEngine, supports
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.loading import (
    device_of,
    end_token,
    load_model,
    load_tokenizer,
    rows_that_fit,
    splits_otherwise,
)
from runners.generate.padded import PaddedEngine
from runners.generate.prompt_tokens import tokenized, with_room
from runners.generate.ranks import Ranks
from runners.lifecycle.events import EventWriter

_COMPARED_PROMPTS = 64


class LocalEngine:
    """Loads the config's model on this rank's device and answers with it.

    Making one only loads the tokenizer: a wrong end token costs no loading of a model.
    """

    def __init__(self, config: GenerateConfig, ranks: Ranks, events: EventWriter) -> None:
        self._config, self._ranks, self._events = config, ranks, events
        self._tokenizer = load_tokenizer(config, lambda text: events.notice("info", text))
        self.eos, self._eos_id = end_token(self._tokenizer, config.eos_token)
        self._too_long: list[Completion] = []

    def prepared(self, requests: list[Request]) -> list[Request]:
        """With tokens, and without prompts that leave no room; those are counted and told."""
        if splits_otherwise(self._tokenizer, [r.text for r in requests[:_COMPARED_PROMPTS]]):
            self._events.notice(
                "warning",
                "transformers splits text otherwise than this checkpoint's tokenizer.json, which "
                "training read: a fine-tuned model sees prompts it was not trained on. Make the "
                "file's pre_tokenizer that of the model's architecture, and train again.",
            )
        known = tokenized(self._tokenizer, requests, chat=self._config.format == "chatml")
        fitting, self._too_long = with_room(known, self._config.max_length, self._events)
        return fitting

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``."""
        if self._ranks.leader:
            yield from self._too_long
        if not len(pool):
            return
        config = self._config
        device = device_of(config, self._ranks.local_rank)
        loaded = load_model(config, self._tokenizer, device)
        if loaded.ignored:
            self._events.notice(
                "warning",
                f"the model's generation_config sets {', '.join(loaded.ignored)}, "
                "which generation here does not apply",
            )
        decoding = replace(
            Decoding.of(config, self.eos),
            eos_id=self._eos_id,
            repetition_penalty=loaded.repetition_penalty,
        )
        rows = config.batch_size or rows_that_fit(loaded.model, decoding.max_length, device)
        chosen = batching(loaded.model, self._tokenizer, decoding, rows, device, config.batching)
        if config.batching == "continuous" and not isinstance(chosen, ContinuousEngine):
            self._events.notice(
                "warning",
                "continuous batching needs a model that supports it and greedy decoding without "
                "repetition penalty: the rows are batched with padding instead",
            )
        try:
            yield from chosen.complete(pool)
        except CannotStartError as error:
            self._events.notice(
                "warning",
                f"continuous batching does not start ({str(error).splitlines()[0][:300]}): "
                "the rows are batched with padding instead",
            )
            padded = PaddedEngine(loaded.model, self._tokenizer, decoding, rows=rows)
            yield from padded.complete(pool)


class Batching(Protocol):
    """A way to run many rows through a loaded model."""

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``."""
        ...


def batching(
    model: Any, tokenizer: Any, decoding: Decoding, rows: int, device: torch.device, way: str
) -> Batching:
    """Continuous batching on a GPU where it can run what is asked, or where it is asked for.

    Padded batches everywhere else: on a CPU they are faster.
    """
    wanted = way == "continuous" or (way == "auto" and device.type == "cuda")
    if wanted and supports(model, decoding):
        return ContinuousEngine(model, tokenizer, decoding, rows=rows)
    return PaddedEngine(model, tokenizer, decoding, rows=rows)

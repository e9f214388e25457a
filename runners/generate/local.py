"""The transformers engine for a job: load the model, tokenize the prompts, choose the way to batch.

The only module that decides between padded batches and continuous batching.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch

from runners.config import GenerateConfig
from runners.generate.continuous import (
    ContinuousEngine,
    GaveUpError,
    has_flash_attention,
    hindrance,
)
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.loading import (
    base_end_token,
    device_of,
    end_token,
    load_model,
    load_tokenizer,
    rows_that_fit,
    splits_otherwise,
)
from runners.generate.padded import PaddedEngine, release_memory
from runners.generate.prompt_tokens import tokenized, with_room
from runners.generate.ranks import Ranks
from runners.lifecycle.events import EventWriter, Level

_COMPARED_PROMPTS = 64
_NO_FLASH = (
    "without flash attention (pip install 'mft-tui[flash]', and bf16 or fp16) continuous batching "
    "has no CUDA graphs"
)

Way = Literal["padded", "continuous"]


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
        own = base_end_token(self._tokenizer, self.eos)
        if own is not None and self._config.eos_token is None and self._config.format != "chatml":
            self._events.notice(
                "info",
                f"completions end at {self.eos}, as those of a fine-tuned model do; for a base "
                f"model, whose own end token is {own}, use --eos-token '{own}'",
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
        # A rank's share at most: what one takes and holds, no other can work on.
        rows = min(rows, -(-len(pool) // self._ranks.count))
        way, notice = way_to_batch(loaded.model, decoding, device, config.batching)
        if notice is not None and self._ranks.leader:
            self._events.notice(*notice)
        unfinished: tuple[Request, ...] = ()
        if way == "continuous":
            continuous = ContinuousEngine(loaded.model, self._tokenizer, decoding, rows=rows)
            try:
                yield from continuous.complete(pool)
                return
            except GaveUpError as error:
                reason, unfinished = str(error).partition("\n")[0][:300], error.unfinished
            # Only now, out of the handler, does nothing hold on to the paged cache any more.
            release_memory()
            self._events.notice(
                "warning",
                f"continuous batching gave up ({reason}): the rows are batched with padding "
                "instead",
            )
        padded = PaddedEngine(loaded.model, self._tokenizer, decoding, rows=rows, taken=unfinished)
        yield from padded.complete(pool)


def way_to_batch(
    model: Any, decoding: Decoding, device: torch.device, asked: str
) -> tuple[Way, tuple[Level, str] | None]:
    """How rows are batched, and what is to be told of it.

    Continuous batching where it is asked for and can run; by itself only on a GPU with flash
    attention, without which padded batches are faster, as they are on a CPU.
    """
    if asked == "padded" or (asked == "auto" and device.type != "cuda"):
        return "padded", None
    if (why := hindrance(model, decoding)) is not None:
        told = f"no continuous batching ({why}): the rows are batched with padding instead"
        return "padded", ("warning" if asked == "continuous" else "info", told)
    if device.type != "cuda" or has_flash_attention(model):
        return "continuous", None
    if asked == "continuous":
        return "continuous", ("warning", f"{_NO_FLASH}: batching=padded may be faster")
    return "padded", ("info", f"{_NO_FLASH}: the rows are batched with padding instead")

"""From the model a person names to the native checkpoint that is trained.

A first-generation checkpoint is converted, and one whose tokenizer lacks the ChatML markers gets
them, with room in its embeddings. Both give a folder of the run's own, because the adapter must
name a base that later steps can load as it is. Any other checkpoint is used where it lies.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from runners.config import TrainConfig
from runners.data.tokenizer import ChatTokenizer, load_tokenizer
from runners.errors import UsageError
from runners.models.convert import convert_checkpoint
from runners.models.families import detect_family, read_model_config
from runners.models.load import fetch_base
from runners.models.tokenizer_files import copy_tokenizer

_EMBEDDING_MULTIPLE = 8
_MADE_FROM = "made-from.json"


@dataclass(frozen=True)
class Base:
    """The native checkpoint ``folder`` and its tokenizer. ``notes`` say what had to be done;
    ``new_tokens`` are markers whose embeddings are untrained."""

    folder: Path
    tokenizer: ChatTokenizer
    new_tokens: tuple[str, ...]
    notes: tuple[str, ...]


def prepare_base(config: TrainConfig, output: Path, wait_turn: Callable[[], bool]) -> Base:
    """Make the base ready. ``wait_turn`` is true on the one rank that may write.

    The others call this after it is done. Raises ``MissingInputError`` or ``UsageError`` when the
    checkpoint, its family or its tokenizer cannot be trained.
    """
    notes = []
    folder = fetch_base(config.pretrained_model_path)
    family = detect_family(read_model_config(folder), asked=config.model_type)
    if family.first_generation:
        native = output / "base"
        if wait_turn():
            _make(native, folder, convert_checkpoint)
        notes.append(f"the {family.name} checkpoint was converted to {family.native} in {native}")
        folder = native
    tokenizer = load_tokenizer(folder)
    added = tuple(token.text for token in tokenizer.added)
    if added:
        grown = output / "base-chatml"
        if wait_turn():
            _make(grown, folder, lambda source, target: _grow(source, target, tokenizer))
        notes.append(f"the tokenizer lacked {' and '.join(added)}: added, in {grown}")
        folder, tokenizer = grown, load_tokenizer(grown)
    rows = int(read_model_config(folder)["vocab_size"])
    if tokenizer.vocabulary > rows:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocabulary} tokens, the model's embedding {rows} rows",
            where=str(tokenizer.path),
            fix="Use the tokenizer that belongs to the checkpoint.",
        )
    return Base(folder, tokenizer, added, tuple(notes))


def _make(target: Path, source: Path, write: Callable[[Path, Path], object]) -> None:
    """Have ``write`` make ``target`` of ``source``, unless it is there and was made of just that.

    Another run may have had the same output folder, or the checkpoint have been fetched anew. A
    folder that no run made is never replaced: ``UsageError``.
    """
    made_from = {
        "source": str(source.resolve()),
        "files": {
            path.name: [path.stat().st_size, path.stat().st_mtime_ns]
            for path in sorted(source.iterdir())
            if path.is_file()
        },
    }
    note = target / _MADE_FROM
    if target.exists() and not note.is_file():
        raise UsageError(
            "a base made for this run would stand here, and something else does",
            where=str(target),
            fix="Choose another output_dir, or move that folder away.",
        )
    if target.exists() and json.loads(note.read_bytes()) == made_from:
        return
    draft = target.with_name(f".{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    write(source, draft)
    (draft / _MADE_FROM).write_text(json.dumps(made_from))
    if target.exists():
        shutil.rmtree(target)
    draft.rename(target)


def _grow(source: Path, target: Path, tokenizer: ChatTokenizer) -> None:
    """Write ``source`` with room for the tokenizer's added markers."""
    part = target.with_name(f".{target.name}.part")
    model = AutoModelForCausalLM.from_pretrained(source, local_files_only=True, dtype="auto")
    rows = int(model.config.get_text_config().vocab_size)
    own = tokenizer.vocabulary - len(tokenizer.added)
    if own > rows:
        raise UsageError(
            f"the tokenizer has {own} tokens, the model's embedding {rows} rows",
            where=str(tokenizer.path),
            fix="Use the tokenizer that belongs to the checkpoint.",
        )
    if tokenizer.vocabulary > rows:
        # New rows begin at the mean of the old: a likely token that can then learn its own way.
        torch.manual_seed(0)
        model.resize_token_embeddings(
            tokenizer.vocabulary, pad_to_multiple_of=_EMBEDDING_MULTIPLE, mean_resizing=True
        )
    model.save_pretrained(part)
    copy_tokenizer(source, part)
    tokenizer.backend.save(str(part / "tokenizer.json"))
    part.rename(target)

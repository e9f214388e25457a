"""A tokenizer folder as training needs it: plain text in, ids out, and the ChatML markers.

Text is never allowed to become a special token: whatever ``<|im_end|>`` a record's content holds is
tokenized as the characters it is made of. Markers are put in by id. Separate from the model's own
tokenizer object so that data can be prepared, validated and previewed without transformers.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import tokenizers

from runners.errors import MissingInputError, UsageError

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
_ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")

Ids: TypeAlias = "array[int]"
"""Token ids as C ints: four bytes each, and put end to end at the speed of memory."""

Encode = Callable[[str], Ids]
"""Plain text to ids; no special token comes of it, none is added."""


@dataclass(frozen=True)
class AddedToken:
    """A token that the tokenizer lacked and gets: the model's embeddings grow to hold it."""

    text: str
    id: int


@dataclass(frozen=True)
class Markers:
    """The ids that are put in by hand."""

    im_start: int
    im_end: int
    end_of_text: int


@dataclass(frozen=True)
class ChatTokenizer:
    """A loaded tokenizer.

    ``encode`` takes plain text. ``added`` lists the markers that the folder's tokenizer lacks, in
    the order in which they get their ids; it is empty for a tokenizer made for ChatML. ``digest``
    is the SHA-256 of tokenizer.json and of the choice of markers.
    """

    path: Path
    encode: Encode
    im_start: int
    im_end: int
    end_of_text: int
    added: tuple[AddedToken, ...]
    vocabulary: int
    digest: str
    backend: tokenizers.Tokenizer

    @property
    def markers(self) -> "Markers":
        """What a worker needs to know of this tokenizer to encode with another encoder."""
        return Markers(self.im_start, self.im_end, self.end_of_text)

    @property
    def special_texts(self) -> tuple[str, ...]:
        """What its special tokens look like in text."""
        added = self.backend.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens kept."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))


class _NamedToken(msgspec.Struct):
    content: str


class _TokenizerConfig(msgspec.Struct):
    eos_token: str | _NamedToken | None = None


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json that ``path`` (the file, or its folder) means.

    Raises ``MissingInputError`` when there is none.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise MissingInputError(
            "there is no tokenizer.json here",
            where=str(path),
            fix="Give a folder that has one; transformers writes it with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(folder).",
        )
    return file


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Load tokenizer.json (and tokenizer_config.json beside it, if there) from a folder.

    Raises ``MissingInputError`` when it is not there, ``UsageError`` when it cannot be read.
    """
    file = tokenizer_file(path)
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise UsageError(
            f"this is no tokenizer that can be read ({error})",
            where=str(file),
            fix="Fetch the tokenizer's files again.",
        ) from error
    backend.no_truncation()
    backend.no_padding()
    missing = [t for t in (IM_START, IM_END) if backend.token_to_id(t) is None]
    backend.add_special_tokens(missing)
    # Special tokens in text stay text; the ids of markers are put in by hand.
    backend.encode_special_tokens = True
    end_of_text = _end_of_text(backend, file.with_name("tokenizer_config.json"))
    digest = hashlib.sha256(file.read_bytes())
    digest.update(f"|{end_of_text}|{missing}".encode())
    return ChatTokenizer(
        path=file,
        encode=plain_encoder(backend),
        im_start=_id_of(backend, IM_START),
        im_end=_id_of(backend, IM_END),
        end_of_text=end_of_text,
        added=tuple(AddedToken(t, _id_of(backend, t)) for t in missing),
        vocabulary=backend.get_vocab_size(with_added_tokens=True),
        digest=digest.hexdigest(),
        backend=backend,
    )


def _end_of_text(backend: tokenizers.Tokenizer, config_file: Path) -> int:
    """The id that ends a pretraining text: the usual marker, else the config's eos."""
    named: str | None = None
    if config_file.is_file():
        try:
            config = msgspec.json.decode(config_file.read_bytes(), type=_TokenizerConfig)
        except msgspec.DecodeError as error:
            raise UsageError(
                f"cannot be read ({error})", where=str(config_file), fix="Repair its JSON."
            ) from error
        eos = config.eos_token
        named = eos.content if isinstance(eos, _NamedToken) else eos
    for token in (*_ENDS_OF_TEXT, named):
        if token is not None and (found := backend.token_to_id(token)) is not None:
            return int(found)
    return _id_of(backend, IM_END)


def _id_of(backend: tokenizers.Tokenizer, token: str) -> int:
    """The id of a token that is known to be there."""
    found = backend.token_to_id(token)
    assert found is not None, token
    return int(found)


def plain_encoder(backend: tokenizers.Tokenizer) -> Encode:
    """Text to ids by ``tokenizers`` itself.

    Tokenizers of the SentencePiece kind put a space before every text they are given. A segment of
    a conversation is the middle of a text, so there the space is kept out by encoding the segment
    behind something whose ids are known.
    """

    def encode(text: str) -> Ids:
        return array("i", backend.encode(text, add_special_tokens=False).ids)

    before = [(text, encode(text)) for text in ("\n", "x", "1", ".")]
    if encode("\nx") == encode("\n") + encode("x"):
        return encode

    def encode_behind(text: str) -> Ids:
        for start, known in before:
            ids = encode(start + text)
            # What stands before must not have merged with the text.
            if ids[: len(known)] == known:
                return ids[len(known) :]
        return encode(text)

    return encode_behind

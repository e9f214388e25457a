"""A tokenizer.json out of a SentencePiece ``tokenizer.model``, the only one that ChatGLM2 and
Baichuan publish.

Apart from the other tokenizer files because it is a translation with rules of its own: the pieces
and their scores become BPE merges, the file's normalization rules a normalizer. Needs protobuf,
which comes with TensorBoard, and not SentencePiece itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from transformers.convert_slow_tokenizer import import_protobuf

from runners.errors import UsageError

_SPACE = "▁"
# Numbers of sentencepiece_model.proto.
_BPE = 2
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4


def tokenizer_from_sentencepiece(path: Path, special: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer of a ``tokenizer.model``, with the same ids for the same text.

    ``special`` are tokens that the checkpoint's own code adds behind the file's pieces, in order.
    Raises ``UsageError`` when the file cannot be read or is of a kind that has no counterpart.
    """
    proto = import_protobuf().ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    # protobuf's DecodeError, which cannot be named without importing what may not be there.
    except Exception as error:
        raise UsageError(
            f"this is no SentencePiece model ({type(error).__name__})",
            where=str(path),
            fix="Download the file again.",
        ) from error
    if not proto.pieces or proto.trainer_spec.model_type != _BPE:
        raise UsageError(
            "this SentencePiece model is not of the BPE kind"
            if proto.pieces
            else "this SentencePiece model has no pieces",
            where=str(path),
            fix="Use the tokenizer.model that belongs to the checkpoint.",
        )
    tokenizer = Tokenizer(_model(proto))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    tokenizer.decoder = _decoder(proto.normalizer_spec)
    tokenizer.add_special_tokens([p.piece for p in proto.pieces if p.type == _CONTROL])
    tokenizer.add_tokens(
        [AddedToken(p.piece, normalized=False) for p in proto.pieces if p.type == _USER_DEFINED]
    )
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _model(proto: Any) -> models.BPE:
    trained = proto.trainer_spec
    mergeable = {
        piece.piece: piece.score for piece in proto.pieces if piece.type in {_NORMAL, _USER_DEFINED}
    }
    return models.BPE(
        {piece.piece: i for i, piece in enumerate(proto.pieces)},
        _merges(mergeable),
        unk_token=proto.pieces[trained.unk_id].piece,
        fuse_unk=True,
        byte_fallback=trained.byte_fallback,
    )


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, in the order in which SentencePiece would join them.

    It joins the pair whose result scores best; pairs with the same result come in the order of the
    pieces they are made of.
    """
    rank = {piece: i for i, piece in enumerate(scores)}
    found = [
        (-score, rank[piece[:cut]], rank[piece[cut:]], piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in rank and piece[cut:] in rank
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def _normalizer(rules: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if rules.precompiled_charsmap:
        steps.append(normalizers.Precompiled(rules.precompiled_charsmap))
    if rules.remove_extra_whitespaces:
        # Spaces only, a line break at either end stays; the mark of a space counts as one.
        steps.append(normalizers.Replace(_SPACE, " "))
        steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if rules.add_dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    steps.append(normalizers.Replace(" ", _SPACE))
    return normalizers.Sequence(steps)


def _decoder(rules: Any) -> decoders.Decoder:
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if rules.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)

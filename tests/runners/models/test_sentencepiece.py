"""A SentencePiece file becomes a tokenizer.json that gives SentencePiece's own ids.

``sentencepiece`` holds three BPE models with byte fallback, 600 pieces each, trained by
SentencePiece 0.2 on lines of this project's sources, and what it makes of some texts: ids, and the
text decoded from them. They differ in the rules they carry: a space put in front, none, and Unicode
normalization with white space collapsed.
"""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from runners.config import TrainConfig
from runners.data.tokenizer import load_tokenizer
from runners.errors import UsageError
from runners.models.convert import convert_checkpoint
from runners.models.prepare import prepare_base
from runners.models.sentencepiece import tokenizer_from_sentencepiece

HERE = Path(__file__).with_name("sentencepiece")
EXPECTED = json.loads((HERE / "expected.json").read_text())
NAMES = ["dummy-prefix", "plain", "charsmap"]


def model(name: str, folder: Path) -> Path:
    """The named file, unpacked as ``tokenizer.model``."""
    path = folder / "tokenizer.model"
    path.write_bytes(gzip.decompress((HERE / f"{name}.model.gz").read_bytes()))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_texts_are_those_of_sentencepiece(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_from_sentencepiece(model(name, tmp_path))
    tokenizer.encode_special_tokens = True
    for text, ids, decoded in EXPECTED[name]:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text
        assert tokenizer.decode(ids, skip_special_tokens=False) == decoded, text


def test_a_file_that_is_no_bpe_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.model"
    broken.write_bytes(b"<html>not found</html>")
    with pytest.raises(UsageError, match="no SentencePiece model"):
        tokenizer_from_sentencepiece(broken)
    broken.write_bytes(b"")
    with pytest.raises(UsageError, match="has no pieces"):
        tokenizer_from_sentencepiece(broken)


def test_chatglm2_as_published_gets_its_pieces_and_its_own_special_tokens(
    shared: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(shared / "models" / "chatglm2-tiny", source)
    model("dummy-prefix", source)
    convert_checkpoint(source, tmp_path / "native")
    tokenizer = load_tokenizer(tmp_path / "native").backend
    assert tokenizer.token_to_id("[MASK]") == 600
    assert tokenizer.token_to_id("eop") == 604
    text, ids, decoded = EXPECTED["dummy-prefix"][0]
    loaded = AutoTokenizer.from_pretrained(tmp_path / "native")
    assert loaded(text, add_special_tokens=False)["input_ids"] == ids
    assert loaded.decode(ids) == decoded
    assert (loaded.eos_token, loaded.pad_token) == ("</s>", "<unk>")


def test_baichuan_as_published_can_be_prepared_for_training(shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(shared / "models" / "baichuan-tiny", source)
    source.chmod(0o755)
    config = json.loads((source / "config.json").read_text())
    weights = load_file(source / "model.safetensors")
    assert config["vocab_size"] < 600, "the markers and pieces need more rows than there are"
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name].repeat(600 // config["vocab_size"] + 1, 1)[:600].clone()
    for path in source.iterdir():
        path.chmod(0o644)
    save_file(weights, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps({**config, "vocab_size": 600}))
    model("plain", source)
    asked = TrainConfig(data_paths=[tmp_path], pretrained_model_path=str(source))
    base = prepare_base(asked, tmp_path / "out", lambda: True)
    assert base.new_tokens == ("<|im_start|>", "<|im_end|>")
    text, ids, _ = EXPECTED["plain"][0]
    assert list(base.tokenizer.encode(text)) == ids

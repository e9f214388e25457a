"""Tokenizers: the one loaded against the file that training read, and tokens into text."""

import shutil
from array import array
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from runners.benchmarks.demo import ideal_answers
from runners.benchmarks.prompts import CodePrefix, PromptStyle, prompt
from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS
from runners.data.chatml import ChatMLEncoder
from runners.data.records import Turn
from runners.data.tokenizer import load_tokenizer as training_tokenizer
from runners.generate.decoding import Decoding
from runners.generate.engine import Request
from runners.generate.loading import splits_otherwise
from runners.generate.prompt_tokens import tokenized
from runners.generate.rows import RowState
from runners.generate.token_text import TokenText
from runners.models.tiny import make_tiny_model
from tests.runners.generate.conftest import END_OF_TURN, make_tokenizer

TEXTS = [answer.prompt.text for answer in ideal_answers(PromptStyle(format="chatml"))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder, iter(TEXTS), hidden=32, layers=1)
    return folder


def test_the_tiny_model_is_split_as_its_file_says(checkpoint: Path) -> None:
    assert not splits_otherwise(AutoTokenizer.from_pretrained(checkpoint), TEXTS)


def test_a_file_that_splits_otherwise_than_its_architecture_is_noticed(
    checkpoint: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(checkpoint, tmp_path / "changed"))
    file = changed / "tokenizer.json"
    written = Tokenizer.from_file(str(file))
    written.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    written.save(str(file))
    assert splits_otherwise(AutoTokenizer.from_pretrained(changed), TEXTS)


@pytest.fixture(scope="module")
def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama 2 has it: blanks as part of tokens, unknown characters as bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    learned = ["".join(TEXTS), "    return total\n    for x in numbers:\n"]
    tokenizer.train_from_iterator(
        learned,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def streamed(tokenizer: PreTrainedTokenizerFast, prompt: list[int], answer: list[int]) -> list[str]:
    """The text after each token of an answer, as its stream tells it."""
    stream, text, seen = TokenText(tokenizer).stream(prompt), "", []
    for token in answer:
        final, tentative = stream.push(token)
        text += final
        seen.append(text + tentative)
    return seen


@pytest.mark.parametrize(
    "answer",
    ["    return total\n", " x = 1\n\n    y", "héé 漢字 { } ", "return\tx", "\n\n", "x" * 30],
)
def test_text_that_streams_in_by_windows_is_that_of_the_whole_row(
    answer: str, sentencepiece: PreTrainedTokenizerFast
) -> None:
    prompt = sentencepiece.encode("def add(a, b):\n", add_special_tokens=False)
    tokens = sentencepiece.encode(answer, add_special_tokens=False)
    whole = TokenText(sentencepiece)
    for length, text in enumerate(streamed(sentencepiece, prompt, tokens), start=1):
        expected = whole.completion(tuple(prompt), tokens[:length])
        # Until a character is whole, this tokenizer gives up the whole run of bytes that it ends.
        if not expected.endswith("\ufffd"):
            assert text == expected
    assert text == whole.completion(tuple(prompt), tokens)


def test_a_first_token_keeps_the_blank_that_indents_it(
    sentencepiece: PreTrainedTokenizerFast,
) -> None:
    prompt = sentencepiece.encode("def add(a, b):\n", add_special_tokens=False)
    blank = sentencepiece.convert_tokens_to_ids("▁")
    request = Request("humanevalsynthesize-python", 0, 0, "", tuple(prompt))
    decoding = Decoding(max_length=200, eos="</s>", eos_id=2)
    row = RowState(request, decoding, TokenText(sentencepiece))
    assert [row.push(token) for token in (blank, *sentencepiece.encode("x = 1\n")[1:])] == [
        None
    ] * len(row.generated)


def test_a_rule_that_final_text_fulfils_is_not_undone_by_bytes_to_come() -> None:
    tokenizer = make_tokenizer()
    # A brace and the first byte of a longer character in one token.
    token = TokenText(tokenizer)
    assert token._bytes is not None
    token._bytes[100] = b"}\xe6"
    request = Request("humanevalsynthesize-js", 0, 0, "", (5,))
    row = RowState(request, Decoding(max_length=200, eos=END_OF_TURN, eos_id=2), token)
    assert row.push(100) == "rule"


@pytest.mark.parametrize("system", ["", "Answer in code."])
@pytest.mark.parametrize("code_prefix", ["user", "answer"])
def test_a_chat_prompt_has_the_ids_that_training_gave_to_the_same_conversation(
    system: str, code_prefix: CodePrefix, checkpoint: Path, shared: Path
) -> None:
    trained = training_tokenizer(checkpoint)
    encoder = ChatMLEncoder(trained)
    loaded = AutoTokenizer.from_pretrained(checkpoint)
    style = PromptStyle("chatml", system, code_prefix)
    questions = [q for task in TASKS for q in load_questions(shared / "benchmarks", task)]
    requests = [
        Request(q.task, q.index, 0, prompt(q, style).text) for q in questions[:: len(TASKS)]
    ]
    for question, request in zip(
        questions[:: len(TASKS)], tokenized(loaded, requests, chat=True), strict=True
    ):
        asked = prompt(question, style)
        turns = [Turn("human", asked.body), Turn("bot", asked.opening)]
        if system:
            turns.insert(0, Turn("system", system))
        ids, spans = array("i"), list[tuple[int, int]]()
        encoder.encode_chat(turns, ids, spans)
        # All but the end of the answer, which is the model's to write.
        assert list(request.ids) == list(ids[:-1]), question.task_id
        assert spans == [(len(ids) - 1 - len(trained.encode(asked.opening)), len(ids))]

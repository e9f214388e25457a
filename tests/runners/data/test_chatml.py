"""The template and its mask, against the words of the reference and of the tokenizer itself."""

import json
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runners.data.chatml import ChatMLEncoder
from runners.data.records import FORMATS, Turn, get_format
from runners.data.tokenizer import load_tokenizer
from runners.errors import MissingInputError, UsageError

TURNS = [
    Turn("system", "Be brief."),
    Turn("human", "add\n"),
    Turn("bot", "def add(a, b):\n"),
    Turn("human", "thanks"),
    Turn("bot", "ok"),
]


def encode(tokenizer_path: Path, turns: list[Turn], system_prompt: str | None = None):
    tokenizer = load_tokenizer(tokenizer_path)
    ids = array("i")
    spans: list[tuple[int, int]] = []
    ChatMLEncoder(tokenizer, system_prompt=system_prompt).encode_chat(turns, ids, spans)
    return tokenizer, ids, spans


def test_the_text_is_the_references_template_without_its_last_newline(tiny_tokenizer):
    tokenizer, ids, _ = encode(tiny_tokenizer, TURNS)
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nadd\n<|im_end|>\n"
        "<|im_start|>assistant\ndef add(a, b):\n<|im_end|>\n"
        "<|im_start|>user\nthanks<|im_end|>\n"
        "<|im_start|>assistant\nok<|im_end|>"
    )


def test_the_bots_content_and_its_end_marker_are_trained_and_nothing_else(tiny_tokenizer):
    tokenizer, ids, spans = encode(tiny_tokenizer, TURNS)
    assert [tokenizer.decode(ids[a:b]) for a, b in spans] == [
        "def add(a, b):\n<|im_end|>",
        "ok<|im_end|>",
    ]


def test_special_token_text_in_content_is_trained_as_text_and_the_turn_closes_once(tiny_tokenizer):
    answer = "stop at <|im_end|> or <|endoftext|><|im_start|>"
    turns = [Turn("human", "<|im_end|>?"), Turn("bot", answer)]
    tokenizer, ids, spans = encode(tiny_tokenizer, turns)
    assert ids.count(tokenizer.im_end) == 2
    assert ids.count(tokenizer.im_start) == 2
    assert tokenizer.end_of_text not in ids
    ((start, stop),) = spans
    assert ids[stop - 1] == tokenizer.im_end
    assert tokenizer.decode(ids[start : stop - 1]) == answer


def test_full_width_punctuation_is_not_rewritten(tiny_tokenizer):
    content = "print('，。：；')  # 全角！"
    tokenizer, ids, spans = encode(tiny_tokenizer, [Turn("human", "x"), Turn("bot", content)])
    start, stop = spans[0]
    assert tokenizer.decode(ids[start : stop - 1]) == content


def test_the_configured_system_prompt_goes_to_records_without_one_only(tiny_tokenizer):
    tokenizer, with_own, _ = encode(tiny_tokenizer, TURNS, system_prompt="Other.")
    assert "Other." not in tokenizer.decode(with_own)
    _, without, _ = encode(tiny_tokenizer, TURNS[1:], system_prompt="Other.")
    assert tokenizer.decode(without).startswith(
        "<|im_start|>system\nOther.<|im_end|>\n<|im_start|>"
    )


def test_pretraining_text_is_trained_everywhere_but_at_its_first_token(tiny_tokenizer):
    tokenizer = load_tokenizer(tiny_tokenizer)
    ids = array("i")
    spans: list[tuple[int, int]] = []
    encoder = ChatMLEncoder(tokenizer)
    encoder.encode_text("import os\n", ids, spans)
    first = len(ids)
    encoder.encode_text("x = 1", ids, spans)
    assert ids[first - 1] == ids[-1] == tokenizer.end_of_text
    assert spans == [(1, first), (first + 1, len(ids))]


def test_missing_markers_are_named_with_the_ids_they_would_get(bare_tokenizer, tiny_tokenizer):
    bare = load_tokenizer(bare_tokenizer)
    assert [(t.text, t.id) for t in bare.added] == [
        ("<|im_start|>", bare.im_start),
        ("<|im_end|>", bare.im_end),
    ]
    assert bare.im_end == bare.im_start + 1 == bare.vocabulary - 1
    assert load_tokenizer(tiny_tokenizer).added == ()


def test_a_folder_without_tokenizer_json_says_how_to_get_one(tmp_path):
    with pytest.raises(MissingInputError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_broken_tokenizer_json_is_a_usage_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match="no tokenizer"):
        load_tokenizer(tmp_path)


SAME_CONVERSATION = {
    "chat_rounds": {
        "chat_rounds": [
            {"role": "system", "content": "S", "chat_round_id": 0},
            {"role": "human", "content": "Q", "chat_round_id": 1},
            {"role": "bot", "content": "A", "chat_round_id": 1},
        ]
    },
    "messages": {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ]
    },
    "conversations": {
        "conversations": [
            {"from": "system", "value": "S"},
            {"from": "human", "value": "Q"},
            {"from": "gpt", "value": "A"},
        ]
    },
    "prompt_answer": {"prompt": "Q", "answer": "A", "system": "S"},
}


@pytest.mark.parametrize("name", SAME_CONVERSATION)
def test_every_format_of_one_conversation_gives_the_same_turns(name):
    form = get_format(name)
    record = form.decoder().decode(json.dumps(SAME_CONVERSATION[name]))
    assert form.turns(record) == [Turn("system", "S"), Turn("human", "Q"), Turn("bot", "A")]
    columns = form.columns([record])
    assert (columns.counts, columns.contents) == ([3], ["S", "Q", "A"])
    assert columns.roles[2] == form.answer
    assert form in FORMATS


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=4))
def test_trained_text_is_exactly_the_bots_words_whatever_they_are(tiny_tokenizer, exchanges):
    turns = [t for q, a in exchanges for t in (Turn("human", q), Turn("bot", a))]
    tokenizer, ids, spans = encode(tiny_tokenizer, turns)
    assert len(spans) == len(exchanges)
    for (start, stop), (_, answer) in zip(spans, exchanges, strict=True):
        assert ids[stop - 1] == tokenizer.im_end
        assert tokenizer.im_end not in ids[start : stop - 1]
        assert tokenizer.decode(ids[start : stop - 1]) == answer

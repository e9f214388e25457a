"""The engine for completions servers, against a real HTTP server that may also misbehave."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runners.benchmarks.demo import ideal_answers
from runners.benchmarks.postprocess import EOS, stop_rule
from runners.benchmarks.prompts import REFERENCE
from runners.benchmarks.stopping import holds
from runners.errors import JobFailedError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.prompt_tokens import ServerCounts, TokenizerCounts
from runners.generate.served import ServedEngine, Server
from runners.generate.server_answers import is_about_length, prompt_tokens
from runners.lifecycle.events import EventWriter
from tests.runners.generate.test_job import answered as answered_by
from tests.runners.generate.test_job import finished, prepared

ANSWERS = ideal_answers(REFERENCE)
# What a model might go on to say if nobody stopped it.
GOING_ON = "\nprint('and more')\n```\nnever wanted\n```\n}}}\n"
REQUESTS = [Request(a.task, a.index, 0, a.prompt.text) for a in ANSWERS]
FAULTS = ["error", "close", "hang", "garbage", "break"]


class ScriptedServer(ThreadingHTTPServer):
    """Streams a fixed completion for each prompt, in pieces of a few characters."""

    daemon_threads = True
    # As many as may ask at once: a connection beyond the queue is dropped, not refused.
    request_queue_size = 64
    faulty = False
    plain = False
    asked = 0
    pause = 0.0
    finish = "length"
    step = 3
    context = 0
    words = (
        "This model's maximum context length is {context} tokens. However, your request has {n} "
    )
    words += "input tokens (max_tokens too large)."

    def __init__(self) -> None:
        self.chance = random.Random(3)
        self.texts = {answer.prompt.text: answer.completion + GOING_ON for answer in ANSWERS}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/completions"

    def fault(self) -> str | None:
        """Half of the requests go wrong, one way or another."""
        self.asked += 1
        if not self.faulty or self.chance.random() < 0.5:
            return None
        return self.chance.choice(FAULTS)


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.fault()
        if body["model"] != "tiny":
            self.send_error(404, "no such model")
        elif self.server.plain and "skip_special_tokens" in body:
            self.send_error(422, "Unexpected fields in the request")
        elif self.server.context and self._tokens(body) > self.server.context:
            words = self.server.words.format(context=self.server.context, n=len(body["prompt"]))
            self.send_response(400)
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"message": words}}).encode())
        elif fault == "error":
            self.send_error(503)
        elif fault == "hang":
            threading.Event().wait(2.0)
        elif fault != "close":
            self._stream(self.server.texts[body["prompt"]], fault)

    def _tokens(self, body: dict[str, Any]) -> int:
        """This server's tokens are characters."""
        return len(body["prompt"]) + int(body["max_tokens"])

    def _stream(self, text: str, fault: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if fault == "garbage":
            return self._event(b"<html>oops</html>")
        for at in range(0, len(text), self.server.step):
            if fault == "break" and at > len(text) // 4:
                return None
            time.sleep(self.server.pause)
            choice = {"text": text[at : at + self.server.step], "finish_reason": None}
            self._event(json.dumps({"choices": [choice]}).encode())
        last = {"text": "", "finish_reason": self.server.finish}
        self._event(json.dumps({"choices": [last], "usage": {"completion_tokens": 77}}).encode())
        return self._event(b"[DONE]")

    def _event(self, content: bytes) -> None:
        try:
            self.wfile.write(b"data: " + content + b"\n\n")
            self.wfile.flush()
        except OSError:
            # The client has what it wants and is gone.
            self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    served = ScriptedServer()
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()


def engine_of(server: ScriptedServer, **changes: Any) -> ServedEngine:
    given = {"timeout": 1.0, "attempts": 12, "pause": 0.01, "model": "tiny", **changes}
    where = Server(url=server.url, key=None, **given)
    return ServedEngine(where, Decoding(max_length=2000, eos=EOS), concurrency=8)


def answered(server: ScriptedServer, **changes: Any) -> list[Completion]:
    engine = engine_of(server, **changes)
    return list(engine.complete(Pool(engine.prepared(REQUESTS))))


def test_a_row_ends_where_its_stop_rule_holds_though_the_server_would_go_on(
    server: ScriptedServer,
) -> None:
    made = {completion.key: completion for completion in answered(server)}
    assert len(made) == len(ANSWERS)
    for answer in ANSWERS:
        completion = made[answer.task, answer.index, 0]
        assert completion.finish == "rule"
        assert completion.stop
        assert (answer.completion + GOING_ON).startswith(completion.completion)
        assert holds(stop_rule(answer.task), completion.completion)
        assert not holds(stop_rule(answer.task), completion.completion[:-3])


def test_a_server_that_fails_half_of_the_time_loses_nothing(server: ScriptedServer) -> None:
    well = {c.key: (c.completion, c.finish) for c in answered(server)}
    server.faulty, server.asked = True, 0
    made = answered(server, attempts=40)
    assert len(made) == len(ANSWERS)
    assert {c.key: (c.completion, c.finish) for c in made} == well
    assert server.asked > len(ANSWERS)


def test_a_request_that_the_server_refuses_is_not_tried_again(server: ScriptedServer) -> None:
    with pytest.raises(JobFailedError, match="404 no such model"):
        answered(server, model="another")
    assert server.asked <= 8


def test_what_was_answered_before_the_server_died_is_kept(server: ScriptedServer) -> None:
    engine = engine_of(server, attempts=2)
    made: list[Completion] = []

    def answer_until_it_dies() -> None:
        for completion in engine.complete(Pool(REQUESTS)):
            made.append(completion)
            if len(made) == 5:
                server.shutdown()
                server.server_close()

    with pytest.raises(JobFailedError, match="run it again: it goes on where it was"):
        answer_until_it_dies()
    assert len(made) >= 5


def test_a_server_that_knows_the_plain_protocol_only_is_asked_in_it(
    server: ScriptedServer,
) -> None:
    well = {c.key: c.completion for c in answered(server)}
    server.plain, server.asked = True, 0
    made = answered(server, extensions={"skip_special_tokens": False}, attempts=1, timeout=60.0)
    assert {c.key: c.completion for c in made} == well
    # Only the requests that were in flight when the server first refused are asked twice.
    assert len(REQUESTS) < server.asked <= len(REQUESTS) + 8


def test_a_completion_ends_in_the_end_token_that_servers_leave_out(server: ScriptedServer) -> None:
    server.texts = {request.text: "    return 1" for request in REQUESTS}
    server.finish = "stop"
    for completion in answered(server):
        assert (completion.finish, completion.tokens) == ("eos", 77)
        assert completion.completion == "    return 1" + EOS


def test_a_stop_does_not_wait_for_answers_that_are_still_coming_in(server: ScriptedServer) -> None:
    server.pause = 0.2
    stop = threading.Event()
    engine = engine_of(server, timeout=600.0)
    pool = Pool(REQUESTS, stopping=stop.is_set)
    threading.Timer(0.3, stop.set).start()
    assert len(list(engine.complete(pool))) < len(REQUESTS)
    assert server.asked <= 8


@pytest.mark.parametrize("step", [1, 40])
def test_a_rule_holds_at_the_same_place_however_many_tokens_come_at_once(
    server: ScriptedServer, step: int
) -> None:
    java = "humanevalsynthesize-java"
    # Within one piece the braces close and open again, so that at its end the rule does not hold.
    server.texts = {
        request.text: "        return 1;\n    }\n}\nclass Other {\n" for request in REQUESTS
    }
    server.step = step
    made = {c.key: c for c in answered(server)}
    assert made[java, 0, 0].finish == "rule"
    assert made[java, 0, 0].stop == "braces closed"
    assert made[java, 0, 0].completion.startswith("        return 1;\n    }\n}")


class Told(ServerCounts):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("step", [1, 1000])
def test_tokens_of_a_row_that_was_ended_early_are_counted_by_its_tokenizer(
    server: ScriptedServer, step: int, tmp_path: Path, tokenizer: Any
) -> None:
    answer = "    a b c d e\nprint"
    server.step = step
    server.texts = {request.text: answer + "\n" for request in REQUESTS}
    with EventWriter(tmp_path / "events.jsonl") as events:
        counts = TokenizerCounts(events, tokenizer, limit=2000, chat=False)
        where = Server(url=server.url, key=None, timeout=5.0, model="tiny")
        engine = ServedEngine(where, Decoding(max_length=2000, eos=EOS), 4, counts)
        made = {c.key: c for c in engine.complete(Pool(REQUESTS))}
    assert made["mbpp", 0, 0].finish == "rule"
    # A character at a time each was a token; at once they are as many as the tokenizer makes.
    split = tokenizer(answer + "\n", add_special_tokens=False)["input_ids"]
    assert 1 < len(split) < len(answer)
    assert made["mbpp", 0, 0].tokens == (len(answer) if step == 1 else len(split))


def test_a_prompt_that_only_the_server_can_count_gets_the_room_that_is_left(
    server: ScriptedServer,
) -> None:
    lengths = sorted(len(request.text) for request in REQUESTS)
    limit = lengths[-2]
    server.context, told = limit, Told()
    where = Server(url=server.url, key=None, timeout=5.0, model="tiny", extensions={"x": 1})
    engine = ServedEngine(where, Decoding(max_length=limit, eos=EOS), 4, told)
    made = list(engine.complete(Pool(REQUESTS)))
    assert len(made) == len(REQUESTS)
    long = [c for c in made if c.finish == "too_long"]
    assert [c.completion for c in long] == [""] * len(long)
    assert len(long) == sum(length >= limit for length in lengths) >= 2
    assert told.said[0].startswith(f"{len(long)} prompts have {limit} tokens or more")
    # A refusal for length says nothing of fields that the server does not know.
    assert engine._extended


def test_prompts_that_leave_no_room_are_counted_by_the_named_tokenizer_and_never_sent(
    server: ScriptedServer, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    run = prepared(
        tmp_path / "run",
        engine="openai",
        base_url=server.url.removesuffix("/completions"),
        served_model="tiny",
        model=str(checkpoint("qwen2")),
        max_length=90,
        tasks="mbpp,humanevalfixtests-java",
    )
    result = finished(run)
    assert result.returncode == 0, result.stderr
    assert "2 prompts have 90 tokens or more" in (run / "events.jsonl").read_text()
    assert sorted(answered_by(run)) == [
        ("humanevalfixtests-java", 0),
        ("humanevalfixtests-java", 1),
        ("mbpp", 0),
        ("mbpp", 1),
    ]
    assert server.asked == 2


def test_a_request_that_does_not_fit_the_servers_context_costs_only_itself(
    server: ScriptedServer,
) -> None:
    server.words = "the sequence is too long"
    server.context = 1000 + sorted(len(request.text) for request in REQUESTS)[-3]
    engine = engine_of(server)
    engine._decoding = Decoding(max_length=1000, eos=EOS)
    made: list[Completion] = []

    def answer() -> None:
        for completion in engine.complete(Pool(REQUESTS)):
            made.append(completion)

    with pytest.raises(JobFailedError, match=r"refuses 2 requests.*too long") as caught:
        answer()
    assert "context of max_length tokens" in str(caught.value)
    assert len(made) == len(REQUESTS) - 2


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        (
            "This model's maximum context length is 2048 tokens. However, you requested 2100 "
            "tokens (100 in the prompt, 2000 in the completion).",
            100,
        ),
        (
            "'max_tokens' is too large: 2000. This model's maximum context length is 2048 tokens "
            "and your request has 130 input tokens (2000 > 2048 - 130).",
            130,
        ),
        (
            "You passed 2049 input tokens and requested 2000 output tokens. However, the model's "
            "context length is only 2048 tokens.",
            2049,
        ),
        ("The input (5001 tokens) is longer than the model's context length (4096 tokens).", 5001),
        ("max_model_len is 2048", None),
    ],
)
def test_what_servers_say_of_length_is_understood(said: str, counted: int | None) -> None:
    assert is_about_length(said)
    assert prompt_tokens(said) == counted


@pytest.mark.parametrize("said", ["Unexpected fields in the request: {'x'}", "invalid api key"])
def test_other_refusals_are_not_taken_for_length(said: str) -> None:
    assert not is_about_length(said)

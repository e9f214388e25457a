"""The engine for completions servers, against a real HTTP server that may also misbehave."""

import json
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runners.benchmarks.demo import ideal_answers
from runners.benchmarks.postprocess import EOS, stop_rule
from runners.benchmarks.prompts import REFERENCE
from runners.benchmarks.stopping import holds
from runners.errors import JobFailedError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.served import ServedEngine, Server

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
        elif fault == "error":
            self.send_error(503)
        elif fault == "hang":
            threading.Event().wait(2.0)
        elif fault != "close":
            self._stream(self.server.texts[body["prompt"]], fault)

    def _stream(self, text: str, fault: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if fault == "garbage":
            return self._event(b"<html>oops</html>")
        for at in range(0, len(text), 3):
            if fault == "break" and at > len(text) // 4:
                return None
            time.sleep(self.server.pause)
            choice = {"text": text[at : at + 3], "finish_reason": None}
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

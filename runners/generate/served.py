"""The engine for an OpenAI-compatible completions server: vLLM, SGLang, ``transformers serve``.

Prompt text is sent as it is. Answers are streamed, so that a row ends where its stop rule holds and
the server stops working on it. A request that fails, hangs or brings garbage is tried again; one
that never succeeds is left unanswered, and the next start of the job goes on with it.

Special tokens belong to a completion, and servers hide them unless told otherwise. vLLM and SGLang
can be told; a server that refuses what it does not know is asked again in the plain protocol, and
then only its own end token ends a row.
"""

import os
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from typing import Any, NamedTuple

import msgspec

from runners.benchmarks.postprocess import EOS, cut_at_stop
from runners.benchmarks.stopping import StopChecker, reason
from runners.config import GenerateConfig
from runners.errors import JobFailedError, UsageError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Finish, Pool, Request
from runners.generate.prompt_tokens import tokenized, with_room
from runners.lifecycle.events import EventWriter

_ATTEMPTS = 8
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_REFUSALS = {400, 401, 403, 404, 405, 413, 422}
"""Statuses that trying again will not change."""
_NOT_UNDERSTOOD = {400, 422}
"""Statuses of a server that does not know a field of the request."""
_LOOK_UP = 0.5
"""Seconds after which a wait for answers looks whether somebody asked for a stop."""


class GarbledAnswerError(Exception):
    """The server answered with something that is no completion."""


class AbandonedError(Exception):
    """Somebody asked for a stop while an answer was coming in."""


@dataclass(frozen=True)
class Server:
    """Where the server is and how it is asked; ``pause`` is the first back-off in seconds.

    ``extensions`` are fields beyond the plain protocol, left out once the server refuses them.
    """

    url: str
    model: str
    key: str | None
    timeout: float
    extensions: Mapping[str, object] = field(default_factory=dict)
    attempts: int = _ATTEMPTS
    pause: float = _FIRST_PAUSE


class ServedEngine:
    """Keeps ``concurrency`` requests in flight; see the module."""

    def __init__(
        self,
        server: Server,
        decoding: Decoding,
        concurrency: int,
        tokens_of: Callable[[list[Request]], tuple[list[Request], list[Completion]]] | None = None,
    ) -> None:
        self._server = server
        self._decoding = decoding
        self._concurrency = concurrency
        self._tokens_of = tokens_of
        self._extended = bool(server.extensions)
        self._too_long: list[Completion] = []
        self.eos = decoding.eos

    @classmethod
    def of(cls, config: GenerateConfig, events: EventWriter) -> "ServedEngine":
        """The engine that a config asks for. Raises ``UsageError`` for an address that is none."""
        if not config.base_url.startswith(("http://", "https://")):
            raise UsageError("not an http address", where=f"base_url: {config.base_url}")
        server = Server(
            url=config.base_url.rstrip("/") + "/completions",
            model=config.served_model or config.model_name,
            key=os.environ.get(config.api_key_variable),
            timeout=config.request_timeout,
            extensions={"skip_special_tokens": False},
        )
        decoding = Decoding.of(config, config.eos_token or EOS)
        if config.model is None:
            events.notice(
                "warning",
                "without a model folder only the server can count tokens: max_length limits the "
                "completion alone; name the served checkpoint with --model to count its prompt too",
            )
            return cls(server, decoding, config.concurrency)
        from runners.generate.loading import end_token, load_tokenizer

        tokenizer, chat = load_tokenizer(config), config.format == "chatml"
        eos, eos_id = end_token(tokenizer, config.eos_token)
        extensions = {"stop_token_ids": [eos_id], "add_special_tokens": not chat}
        return cls(
            replace(server, extensions={**server.extensions, **extensions}),
            replace(decoding, eos=eos),
            config.concurrency,
            lambda requests: with_room(
                tokenized(tokenizer, requests, chat=chat), config.max_length, events
            ),
        )

    def prepared(self, requests: list[Request]) -> list[Request]:
        """With tokens where the tokenizer is known, to count what room they leave."""
        if self._tokens_of is None:
            return requests
        fitting, self._too_long = self._tokens_of(requests)
        return fitting

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``.

        Raises ``JobFailedError`` once the pool is empty if requests were given up, and at once when
        the server refuses what it is asked.
        """
        yield from self._too_long
        results: queue.SimpleQueue[Completion | Exception | None] = queue.SimpleQueue()
        giving_up = threading.Event()
        workers = [
            threading.Thread(target=self._work, args=(pool, results, giving_up), daemon=True)
            for _ in range(max(1, min(self._concurrency, len(pool))))
        ]
        for worker in workers:
            worker.start()
        running, lost = len(workers), []
        try:
            while running and not (pool.stopping and results.empty()):
                try:
                    result = results.get(timeout=_LOOK_UP)
                except queue.Empty:
                    continue
                if result is None:
                    running -= 1
                elif isinstance(result, Completion):
                    yield result
                else:
                    lost.append(result)
        finally:
            giving_up.set()
        if lost and not pool.stopping:
            raise lost[0] if isinstance(lost[0], JobFailedError) else self._lost(lost)

    def _work(
        self,
        pool: Pool,
        results: "queue.SimpleQueue[Completion | Exception | None]",
        giving_up: threading.Event,
    ) -> None:
        try:
            while not giving_up.is_set() and (requests := pool.take(1)):
                try:
                    results.put(self._answer(requests[0], pool, giving_up))
                except JobFailedError as error:
                    # What one request is refused for, all of them are.
                    giving_up.set()
                    results.put(error)
                except (OSError, HTTPException, GarbledAnswerError) as error:
                    results.put(error)
                except AbandonedError:
                    return
        finally:
            results.put(None)

    def _answer(self, request: Request, pool: Pool, giving_up: threading.Event) -> Completion:
        attempt = 0
        while attempt < self._server.attempts and not pool.stopping:
            extended = self._extended
            try:
                return self._once(request, pool, extended)
            except urllib.error.HTTPError as error:
                if extended and error.code in _NOT_UNDERSTOOD:
                    self._extended = False
                    continue
                if error.code in _REFUSALS:
                    raise self._refused(error) from error
                problem: Exception = error
            except (OSError, HTTPException, GarbledAnswerError) as error:
                problem = error
            attempt += 1
            wait = min(_LONGEST_PAUSE, self._server.pause * 2 ** (attempt - 1))
            # Jitter, so that all requests in flight do not come back in the same instant.
            if attempt < self._server.attempts and giving_up.wait(wait * (0.5 + random.random())):
                break
        if pool.stopping:
            raise AbandonedError
        raise problem

    def _once(self, request: Request, pool: Pool, extended: bool) -> Completion:
        started = time.monotonic()
        rule = self._decoding.rule(request.task)
        checker = StopChecker(rule) if rule is not None else None
        text, tokens, finish = "", 0, None
        with urllib.request.urlopen(  # noqa: S310
            self._http(request, extended), timeout=self._server.timeout
        ) as answer:
            for piece in _pieces(answer):
                if pool.stopping:
                    raise AbandonedError
                text += piece.text
                tokens = piece.tokens or tokens + bool(piece.text)
                finish = piece.finish or finish
                if checker is not None and checker.feed(piece.text):
                    finish = "rule"
                    break
                if time.monotonic() - started > self._server.timeout:
                    raise TimeoutError("the answer took longer than request_timeout")
        if finish is None:
            raise GarbledAnswerError("the answer broke off without a finish reason")
        if finish == "rule" and rule is not None:
            # A server may send several tokens at once; what lies past the stop was never wanted.
            text = cut_at_stop(request.task, text, eos=(self._decoding.eos,))
            if text.endswith(self._decoding.eos):
                finish = "eos"
        elif finish == "eos" and not text.endswith(self._decoding.eos):
            # Servers leave out the token that ended the row; completions have it.
            text += self._decoding.eos
        return Completion(
            task=request.task,
            index=request.index,
            sample=request.sample,
            completion=text,
            finish=finish,
            tokens=tokens,
            stop=reason(rule, text) if finish == "rule" and rule is not None else None,
            seconds=round(time.monotonic() - started, 4),
            at=round(time.time(), 3),
        )

    def _http(self, request: Request, extended: bool) -> urllib.request.Request:
        decoding = self._decoding
        body: dict[str, Any] = {
            "model": self._server.model,
            "prompt": request.text,
            "max_tokens": self._room(request),
            "temperature": decoding.temperature if decoding.do_sample else 0.0,
            "stream": True,
        }
        if decoding.do_sample:
            body |= {
                "top_p": decoding.top_p,
                "seed": (decoding.seed + 7919 * request.index + request.sample) % 2**31,
            }
        if extended:
            body |= self._server.extensions
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self._server.key:
            headers["Authorization"] = f"Bearer {self._server.key}"
        return urllib.request.Request(  # noqa: S310 - the scheme was checked when it was configured
            self._server.url, data=msgspec.json.encode(body), headers=headers
        )

    def _room(self, request: Request) -> int:
        """Tokens that the answer may have: all of the limit where only the server can count."""
        return max(1, self._decoding.max_length - len(request.ids))

    def _refused(self, error: urllib.error.HTTPError) -> JobFailedError:
        said = error.read(2000).decode(errors="replace").strip()
        return JobFailedError(
            f"the server refuses the request ({error.code} {error.reason}): {said[:300]}",
            where=self._server.url,
            fix="Check --base-url, --served-model and the key variable.",
        )

    def _lost(self, lost: list[Exception]) -> JobFailedError:
        return JobFailedError(
            f"{len(lost)} requests failed {self._server.attempts} times each, "
            f"the first with: {type(lost[0]).__name__}: {lost[0]}",
            where=self._server.url,
            fix="Once the server is well, run it again: it goes on where it was.",
        )


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Answer)


class _Piece(NamedTuple):
    """Text that came in, and, with the last of it, why it is the last and the tokens of all."""

    text: str
    finish: Finish | None
    tokens: int


def _pieces(answer: Any) -> Iterator[_Piece]:
    """The pieces of an answer, streamed or whole.

    Raises ``GarbledAnswerError`` for anything that is no completion.
    """
    streamed = "event-stream" in (answer.headers.get("Content-Type") or "")
    for line in answer if streamed else [b"data: " + answer.read()]:
        if not line.startswith(b"data:"):
            if line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise GarbledAnswerError(f"not an event: {line[:80]!r}")
            continue
        content = line[5:].strip()
        if content == b"[DONE]":
            return
        try:
            decoded = _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GarbledAnswerError(f"not a completion ({error}): {content[:80]!r}") from None
        tokens = decoded.usage.completion_tokens if decoded.usage is not None else 0
        for choice in decoded.choices:
            yield _Piece(choice.text, _finish(choice.finish_reason), tokens)


def _finish(said: str | None) -> Finish | None:
    if said is None or said == "":
        return None
    if said in {"stop", "eos"}:
        return "eos"
    if said == "length":
        return "length"
    raise GarbledAnswerError(f"the server ended with {said!r}")

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from typing import Any

import msgspec

from runners.benchmarks.postprocess import EOS, cut_at_stop
from runners.benchmarks.stopping import StopChecker, reason
from runners.config import GenerateConfig
from runners.errors import JobFailedError, UsageError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.prompt_tokens import ServerCounts, TokenizerCounts, empty
from runners.generate.server_answers import (
    GarbledAnswerError,
    is_about_length,
    pieces,
    prompt_tokens,
)
from runners.lifecycle.events import EventWriter

_ATTEMPTS = 8
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_REFUSALS = {400, 401, 403, 404, 405, 413, 422}
"""Statuses that trying again will not change."""
_REFUSES_ALL = {401, 403, 404, 405}
"""Those that have nothing to do with what is in a request: what one gets, all get."""
_NOT_UNDERSTOOD = {400, 422}
"""Statuses of a server that does not know a field of the request."""
_LOOK_UP = 0.5
"""Seconds after which a wait for answers looks whether somebody asked for a stop."""


class RefusedRequestError(Exception):
    """The server will not answer this request; ``of_all`` if it will not answer any."""

    def __init__(self, said: str, *, of_all: bool, too_long: bool) -> None:
        super().__init__(said)
        self.of_all = of_all
        self.too_long = too_long


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
        counting: ServerCounts | None = None,
    ) -> None:
        self._server = server
        self._decoding = decoding
        self._concurrency = concurrency
        self._counting = counting
        self._extended = bool(server.extensions)
        self._too_long: list[Completion] = []
        self._answered = False
        self._beyond = 0
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
            extensions={
                "skip_special_tokens": False,
                "add_special_tokens": config.format != "chatml",
                "stream_options": {"include_usage": True},
            },
        )
        decoding = Decoding.of(config, config.eos_token or EOS)
        if config.model is None:
            events.notice(
                "warning",
                "without a model folder only the server can count tokens: max_length limits the "
                "completion alone; name the served checkpoint with --model to count its prompt too",
            )
            return cls(server, decoding, config.concurrency, ServerCounts(events))
        from runners.generate.loading import end_token, load_tokenizer

        tokenizer = load_tokenizer(config)
        eos, eos_id = end_token(tokenizer, config.eos_token)
        return cls(
            replace(server, extensions={**server.extensions, "stop_token_ids": [eos_id]}),
            replace(decoding, eos=eos),
            config.concurrency,
            TokenizerCounts(
                events, tokenizer, limit=config.max_length, chat=config.format == "chatml"
            ),
        )

    def prepared(self, requests: list[Request]) -> list[Request]:
        """With tokens where the tokenizer is known, to count what room they leave."""
        if self._counting is None:
            return requests
        fitting, self._too_long = self._counting.requests(requests)
        return fitting

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``.

        Raises ``JobFailedError`` once the pool is empty if requests were given up, and at once when
        the server refuses all that it is asked.
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
        running, lost, told = len(workers), list[Exception](), 0
        try:
            while running and not (pool.stopping and results.empty()):
                try:
                    result = results.get(timeout=_LOOK_UP)
                except queue.Empty:
                    continue
                if result is None:
                    running -= 1
                elif isinstance(result, Completion):
                    told += result.finish == "too_long"
                    yield result
                else:
                    lost.append(result)
        finally:
            giving_up.set()
        self._tell_long(told)
        if lost and not pool.stopping:
            raise self._lost(lost)

    def _tell_long(self, too_long: int) -> None:
        limit = self._decoding.max_length
        if self._counting is None:
            return
        if too_long:
            self._counting.tell(
                f"{too_long} prompts have {limit} tokens or more, which is the limit: their "
                "completions are empty"
            )
        if self._beyond:
            self._counting.tell(
                f"{self._beyond} completions and their prompts have more than {limit} tokens "
                "together, as the server counts: name the served checkpoint with --model to keep "
                "to the limit"
            )

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
                    self._answered = True
                except RefusedRequestError as error:
                    if error.of_all or not (error.too_long or self._answered):
                        giving_up.set()
                    results.put(error)
                except (OSError, HTTPException, GarbledAnswerError) as error:
                    results.put(error)
                except AbandonedError:
                    return
        finally:
            results.put(None)

    def _answer(self, request: Request, pool: Pool, giving_up: threading.Event) -> Completion:
        attempt, room = 0, self._room(request)
        while attempt < self._server.attempts and not pool.stopping:
            extended = self._extended
            try:
                return self._once(request, pool, extended, room)
            except urllib.error.HTTPError as error:
                said = error.read(2000).decode(errors="replace").strip()
                if extended and error.code in _NOT_UNDERSTOOD and not is_about_length(said):
                    self._extended = False
                    continue
                if error.code in _REFUSALS:
                    left = self._left(room, said)
                    if left is None:
                        raise _refused(error, said) from error
                    if left < 1:
                        return empty(request)
                    room = left
                    continue
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

    def _left(self, room: int, said: str) -> int | None:
        """The room that a refused request has by the server's own count; None if that is no help.

        Only the server may be able to count the prompt, and what was asked for then was the whole
        limit.
        """
        counted = prompt_tokens(said) if is_about_length(said) else None
        if counted is None or room < self._decoding.max_length:
            return None
        return self._decoding.max_length - counted

    def _once(self, request: Request, pool: Pool, extended: bool, room: int) -> Completion:
        started = time.monotonic()
        rule = self._decoding.rule(request.task)
        checker = StopChecker(rule) if rule is not None else None
        text, counted, asked, finish, end = "", 0, 0, None, 0
        texts: list[str] = []
        with urllib.request.urlopen(  # noqa: S310
            self._http(request, extended, room), timeout=self._server.timeout
        ) as answer:
            for piece in pieces(answer):
                if pool.stopping:
                    raise AbandonedError
                texts += [piece.text] if piece.text else []
                counted = piece.tokens or counted
                asked = piece.prompt_tokens or asked
                finish = piece.finish or finish
                # A piece may hold several tokens; the braces may close and open again within it.
                held = _held(checker, piece.text) if checker is not None else None
                end = len(text) + (held or len(piece.text))
                text += piece.text
                if held is not None:
                    finish = "rule"
                    break
                if time.monotonic() - started > self._server.timeout:
                    raise TimeoutError("the answer took longer than request_timeout")
        if finish is None:
            raise GarbledAnswerError("the answer broke off without a finish reason")
        if finish == "rule" and rule is not None:
            # What a piece holds past the stop was never wanted.
            text = cut_at_stop(request.task, text, eos=(self._decoding.eos,))
            if text.endswith(self._decoding.eos):
                finish = "eos"
        elif finish == "eos" and not text.endswith(self._decoding.eos):
            # Servers leave out the token that ended the row; completions have it.
            text += self._decoding.eos
        # A row that we ended was not told its number of tokens.
        tokens = counted or (self._counting.tokens(texts) if self._counting else len(texts))
        self._beyond += asked + tokens > self._decoding.max_length
        return Completion(
            task=request.task,
            index=request.index,
            sample=request.sample,
            completion=text,
            finish=finish,
            tokens=tokens,
            stop=reason(rule, text[:end]) if finish == "rule" and rule is not None else None,
            seconds=round(time.monotonic() - started, 4),
            at=round(time.time(), 3),
        )

    def _http(self, request: Request, extended: bool, room: int) -> urllib.request.Request:
        decoding = self._decoding
        body: dict[str, Any] = {
            "model": self._server.model,
            "prompt": request.text,
            "max_tokens": room,
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

    def _lost(self, lost: list[Exception]) -> JobFailedError:
        for error in lost:
            if isinstance(error, RefusedRequestError):
                refused = sum(isinstance(other, RefusedRequestError) for other in lost)
                return JobFailedError(
                    f"the server refuses {refused} requests, the first with: {error}",
                    where=self._server.url,
                    fix="Start the server with a context of max_length tokens, or lower it."
                    if error.too_long
                    else "Check --base-url, --served-model and the key variable.",
                )
        return JobFailedError(
            f"{len(lost)} requests failed {self._server.attempts} times each, "
            f"the first with: {type(lost[0]).__name__}: {lost[0]}",
            where=self._server.url,
            fix="Once the server is well, run it again: it goes on where it was.",
        )


def _held(checker: StopChecker, text: str) -> int | None:
    """How many characters of more text it takes until the rule holds; None if it does not."""
    for length, character in enumerate(text, start=1):
        if checker.feed(character):
            return length
    return None


def _refused(error: urllib.error.HTTPError, said: str) -> RefusedRequestError:
    return RefusedRequestError(
        f"{error.code} {error.reason}: {said[:300]}",
        of_all=error.code in _REFUSES_ALL,
        too_long=is_about_length(said),
    )

"""The engine for an OpenAI-compatible completions server: vLLM, SGLang, ``transformers serve``.

Prompt text is sent as it is. Answers are streamed, so that a row ends where its stop rule holds and
the server stops working on it. A request that fails, hangs or brings garbage is tried again; one
that never succeeds is left unanswered, and the next start of the job goes on with it.
"""

import os
import queue
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Any

import msgspec

from runners.benchmarks.postprocess import EOS, cut_at_stop
from runners.benchmarks.stopping import StopChecker, reason
from runners.config import GenerateConfig
from runners.errors import JobFailedError, UsageError
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Finish, Pool, Request

_ATTEMPTS = 8
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_REFUSALS = {400, 401, 403, 404, 405, 413, 422}
"""Statuses that trying again will not change."""


class GarbledAnswerError(Exception):
    """The server answered with something that is no completion."""


@dataclass(frozen=True)
class Server:
    """Where the server is and how it is asked; ``pause`` is the first back-off in seconds."""

    url: str
    model: str
    key: str | None
    timeout: float
    attempts: int = _ATTEMPTS
    pause: float = _FIRST_PAUSE


class ServedEngine:
    """Keeps ``concurrency`` requests in flight; see the module."""

    def __init__(
        self, server: Server, decoding: Decoding, concurrency: int, tokenizer: Any = None
    ) -> None:
        self._server = server
        self._tokenizer = tokenizer
        self._decoding = decoding
        self._concurrency = concurrency
        self.eos = decoding.eos

    @classmethod
    def of(cls, config: GenerateConfig) -> "ServedEngine":
        """The engine that a config asks for. Raises ``UsageError`` for an address that is none."""
        if not config.base_url.startswith(("http://", "https://")):
            raise UsageError("not an http address", where=f"base_url: {config.base_url}")
        server = Server(
            url=config.base_url.rstrip("/") + "/completions",
            model=config.served_model or config.model_name,
            key=os.environ.get(config.api_key_variable),
            timeout=config.request_timeout,
        )
        decoding = Decoding.of(config, config.eos_token or EOS)
        if config.model is None:
            return cls(server, decoding, config.concurrency)
        from runners.generate.loading import end_token, load_tokenizer

        tokenizer = load_tokenizer(config)
        eos, _ = end_token(tokenizer, config.eos_token)
        return cls(server, replace(decoding, eos=eos), config.concurrency, tokenizer)

    def prepared(self, requests: list[Request]) -> list[Request]:
        """With tokens where the tokenizer is known, to count what room they leave."""
        if self._tokenizer is None:
            return requests
        encoded = self._tokenizer([request.text for request in requests])["input_ids"]
        return [replace(r, ids=tuple(ids)) for r, ids in zip(requests, encoded, strict=True)]

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer the pool; see ``Engine``.

        Raises ``JobFailedError`` once the pool is empty if requests were given up, and at once when
        the server refuses what it is asked.
        """
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
            while running:
                result = results.get()
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
        finally:
            results.put(None)

    def _answer(self, request: Request, pool: Pool, giving_up: threading.Event) -> Completion:
        for attempt in range(1, self._server.attempts + 1):
            try:
                return self._once(request)
            except urllib.error.HTTPError as error:
                if error.code in _REFUSALS:
                    raise self._refused(error) from error
                problem: Exception = error
            except (OSError, HTTPException, GarbledAnswerError) as error:
                problem = error
            if attempt == self._server.attempts or pool.stopping:
                break
            wait = min(_LONGEST_PAUSE, self._server.pause * 2 ** (attempt - 1))
            # Jitter, so that all requests in flight do not come back in the same instant.
            if giving_up.wait(wait * (0.5 + random.random())):
                break
        raise problem

    def _once(self, request: Request) -> Completion:
        started = time.monotonic()
        rule = self._decoding.rule(request.task)
        checker = StopChecker(rule) if rule is not None else None
        text, pieces, finish = "", 0, None
        with urllib.request.urlopen(self._http(request), timeout=self._server.timeout) as answer:  # noqa: S310
            for piece, ended in _pieces(answer):
                text += piece
                pieces += bool(piece)
                finish = ended or finish
                if checker is not None and checker.feed(piece):
                    finish = "rule"
                    break
                if time.monotonic() - started > self._server.timeout:
                    raise TimeoutError("the answer took longer than request_timeout")
        if finish is None:
            raise GarbledAnswerError("the answer broke off without a finish reason")
        if finish == "rule" and rule is not None:
            # A server may send several tokens at once; what lies past the stop was never wanted.
            text = cut_at_stop(request.task, text, eos=(self._decoding.eos,))
        return Completion(
            task=request.task,
            index=request.index,
            sample=request.sample,
            completion=text,
            finish=finish,
            tokens=pieces,
            stop=reason(rule, text) if finish == "rule" and rule is not None else None,
            seconds=round(time.monotonic() - started, 4),
            at=round(time.time(), 3),
        )

    def _http(self, request: Request) -> urllib.request.Request:
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


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decoder = msgspec.json.Decoder(_Answer)


def _pieces(answer: Any) -> Iterator[tuple[str, Finish | None]]:
    """The pieces of an answer, streamed or whole, each with the reason of its end if it is the end.

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
            choices = _decoder.decode(content).choices
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GarbledAnswerError(f"not a completion ({error}): {content[:80]!r}") from None
        for choice in choices:
            yield choice.text, _finish(choice.finish_reason)


def _finish(said: str | None) -> Finish | None:
    if said is None or said == "":
        return None
    if said in {"stop", "eos"}:
        return "eos"
    if said == "length":
        return "length"
    raise GarbledAnswerError(f"the server ended with {said!r}")

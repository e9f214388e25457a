"""Launching from a program that may be closed any moment: in a process that outlives it.

Before a run exists its inputs are hashed, which takes minutes for a large model. An app that did
this itself would lose the launch when it is closed, and keep the person waiting for its threads. So
it asks ``python -m runners.lifecycle.detached`` instead, in a session of its own, and reads what
that one tells in a file: how far the hashing is, and what came of it. Whoever started it may be
gone by then; a refusal that nobody has read is kept for the next one who asks.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runners.config.base import JobConfig
from runners.errors import MftError
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.processes import Machine, ProcessId
from runners.lifecycle.status import write_whole

_TOLD_EVERY = 0.2
_TAIL = 4096


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What ``launch`` is to be called with, and the process that follows what comes of it."""

    run_id: str
    host: str
    pid: int
    started: float
    kind: str
    config: dict[str, object]
    name: str | None = None
    parent_id: str | None = None
    origins: dict[str, str] = {}


class Hashing(msgspec.Struct, frozen=True, tag="hashing"):
    """Bytes of the inputs that are hashed, and all there are; both 0 before it has begun.

    ``pid`` and ``started`` are the launcher's own.
    """

    pid: int
    started: float
    done: int = 0
    total: int = 0


class Launched(msgspec.Struct, frozen=True, tag="launched"):
    """The run is in the store and has its supervisor."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It could not be launched; ``words`` as an ``MftError`` says them."""

    words: str


News = Hashing | Launched | Refused


@dataclass(frozen=True)
class Launcher:
    """A launch under way."""

    run_id: str
    process: "subprocess.Popen[bytes]"
    told: Path

    def news(self) -> News | None:
        """The newest of it; a launcher that has died without a word has refused."""
        ended = self.process.poll()
        news = _newest(self.told)
        if ended is not None and not isinstance(news, Launched | Refused):
            if ended == -signal.SIGTERM:
                return Refused("it was given up")
            words = _tail(_log(self.told))
            return Refused(words or f"the launcher ended with exit status {ended}")
        return news

    def give_up(self) -> None:
        """End it; nothing of the run is kept unless it has been launched by now."""
        self.process.terminate()
        self.process.wait()
        if not isinstance(_newest(self.told), Launched):
            self.forget()

    def forget(self) -> None:
        """Remove what it told, once that has been read."""
        _remove(self.told)


def start_launch(
    config: JobConfig,
    state: StateFolder,
    *,
    name: str | None = None,
    parent_id: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> Launcher:
    """Begin to launch ``config`` and come back at once. Raises ``OSError``."""
    from db import new_run_id

    run_id, me = new_run_id(), ProcessId.of(os.getpid())
    assert me is not None
    request = Request(
        run_id=run_id,
        host=Machine.here().host,
        pid=me.pid,
        started=me.started,
        kind=config.kind,
        config=config.model_dump(mode="json"),
        name=name,
        parent_id=parent_id,
        origins=dict(origins or {}),
    )
    told = _folder(state) / f"{run_id}.jsonl"
    told.parent.mkdir(parents=True, exist_ok=True)
    write_whole(_request(told), msgspec.json.encode(request))
    with _log(told).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runners.lifecycle.detached", str(told)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Launcher(run_id, process, told)


def left_behind(state: StateFolder) -> list[Refused]:
    """The refusals that nobody has read, because whoever launched was closed; told only once."""
    found = []
    for told in sorted(_folder(state).glob("*.jsonl")):
        request = msgspec.json.decode(_request(told).read_bytes(), type=Request)
        if request.host != Machine.here().host or _follower(request).alive:
            continue
        news = _newest(told)
        if isinstance(news, Hashing):
            if ProcessId(news.pid, news.started).alive:
                continue
            found.append(Refused(f"the launch of {request.run_id} was broken off"))
        elif isinstance(news, Refused):
            found.append(news)
        _remove(told)
    return found


def _follower(request: Request) -> ProcessId:
    return ProcessId(request.pid, request.started)


def _folder(state: StateFolder) -> Path:
    return state.root / "launches"


def _request(told: Path) -> Path:
    return told.with_suffix(".request")


def _log(told: Path) -> Path:
    return told.with_suffix(".log")


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_TAIL:].decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def _remove(told: Path) -> None:
    for path in (told, _request(told), _log(told)):
        path.unlink(missing_ok=True)


def _newest(told: Path) -> News | None:
    try:
        lines = told.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    if not lines:
        return None
    news: News = msgspec.json.decode(lines[-1], type=Hashing | Launched | Refused)
    return news


def main(argv: list[str]) -> int:
    """Launch what the request beside the file ``argv[0]`` asks for, and tell it in that file."""
    told = Path(argv[0])
    request = msgspec.json.decode(_request(told).read_bytes(), type=Request)
    me = ProcessId.of(os.getpid())
    assert me is not None
    with told.open("ab", buffering=0) as file:

        def tell(news: News) -> None:
            file.write(msgspec.json.encode(news) + b"\n")

        tell(Hashing(me.pid, me.started))
        news = _launch(StateFolder(told.parent.parent), request, me, tell)
        tell(news)
    if isinstance(news, Launched) and not _follower(request).alive:
        _remove(told)  # nobody will read it, and the run tells the rest
    return 0 if isinstance(news, Launched) else 1


def _launch(
    state: StateFolder, request: Request, me: ProcessId, tell: Callable[[News], None]
) -> Launched | Refused:
    from db import StoreError, open_store
    from runners.config import KINDS
    from runners.lifecycle.launch import launch

    last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _TOLD_EVERY:
            last = time.monotonic()
            tell(Hashing(me.pid, me.started, done, total))

    try:
        config = KINDS[request.kind].model_validate(request.config)
        with open_store(state.database) as store:
            launch(
                config,
                store=store,
                state=state,
                name=request.name,
                parent_id=request.parent_id,
                origins=request.origins,
                run_id=request.run_id,
                on_progress=on_progress,
            )
    except (MftError, StoreError, OSError) as error:
        return Refused(str(error))
    except Exception:  # noqa: BLE001 - ours; whoever launched shows it, as there is no terminal
        return Refused(traceback.format_exc())
    return Launched()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

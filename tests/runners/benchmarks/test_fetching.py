"""``benchmarks fetch`` from a mirror on this machine: the hub's protocol, and being offline."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runners.benchmarks.fingerprints import compare
from runners.benchmarks.humanevalpack import HUB_DATASET, HUB_REVISION
from runners.benchmarks.tasks import TASKS


class Mirror(ThreadingHTTPServer):
    """Serves the benchmark's files as the hub does, at one commit, and MBPP's from a plain path."""

    daemon_threads = True

    def __init__(self, benchmarks: Path) -> None:
        self.benchmarks = benchmarks
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def file(self, path: str) -> Path | None:
        self.asked.append(path)
        if path == "/mbpp.jsonl":
            return self.benchmarks / "mbpp.jsonl"
        head = f"/datasets/{HUB_DATASET}/resolve/{HUB_REVISION}/data/"
        if not path.startswith(head):
            return None
        return self.benchmarks / "humanevalpack" / f"{path.removeprefix(head).split('/')[0]}.jsonl"


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: bytes | None) -> None:
        file = self.server.file(self.path)
        if file is None or not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{file.stem}-{len(data)}"')
        self.send_header("X-Repo-Commit", HUB_REVISION)
        self.end_headers()
        self.wfile.write(data if body is None else body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def mirror(shared: Path) -> Iterator[Mirror]:
    served = Mirror(shared / "benchmarks")
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def fetched(
    home: Path, hub: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mft_tui", "benchmarks", "fetch", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "MFT_HOME": str(home), "HF_HOME": str(hub), **environment},
    )


def test_a_mirror_brings_the_competitions_rows(mirror: Mirror, tmp_path: Path) -> None:
    home, mbpp = tmp_path / "home", f"{mirror.url}/mbpp.jsonl"
    done = fetched(home, tmp_path / "hub", "--mbpp-url", mbpp, HF_ENDPOINT=mirror.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("official") == 7
    assert {r.verdict for r in compare(home / "benchmarks", TASKS)} == {"official"}


def test_offline_takes_the_hubs_cache_and_says_what_does_not_live_there(
    mirror: Mirror, shared: Path, tmp_path: Path
) -> None:
    hub, mbpp = tmp_path / "hub", f"{mirror.url}/mbpp.jsonl"
    assert fetched(tmp_path / "a", hub, "--mbpp-url", mbpp, HF_ENDPOINT=mirror.url).returncode == 0
    mirror.asked.clear()
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": mirror.url}

    refused = fetched(tmp_path / "b", hub, **offline)
    assert refused.returncode == 1
    assert "mbpp.jsonl does not live on the hub and was never fetched" in refused.stderr
    assert not (tmp_path / "b" / "benchmarks").exists()

    own = str(shared / "benchmarks" / "mbpp.jsonl")
    assert fetched(tmp_path / "b", hub, "--mbpp-url", own, **offline).returncode == 0
    again = fetched(tmp_path / "b", hub, **offline)
    assert again.returncode == 0, again.stderr
    assert mirror.asked == []


def test_a_mirror_whose_rows_differ_is_not_believed(mirror: Mirror, tmp_path: Path) -> None:
    shutil.copytree(mirror.benchmarks, tmp_path / "changed")
    mirror.benchmarks = tmp_path / "changed"
    path = mirror.benchmarks / "mbpp.jsonl"
    path.write_text(path.read_text().partition("\n")[2])
    home, mbpp = tmp_path / "home", f"{mirror.url}/mbpp.jsonl"
    refused = fetched(home, tmp_path / "hub", "--mbpp-url", mbpp, HF_ENDPOINT=mirror.url)
    assert refused.returncode == 4
    assert "rows 1 of the competition's mbpp.jsonl are missing" in refused.stderr
    assert not (home / "benchmarks").exists()

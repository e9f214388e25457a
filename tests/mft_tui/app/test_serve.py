"""The app in a browser: who is let in, and that it is the app that answers."""

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from mft_tui.cli.serve import is_loopback
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.browser import visit
from tests.mft_tui.app.conftest import add_run


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("x.org", False)],
)
def test_only_this_machine_is_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def _serve(state: StateFolder, *arguments: str) -> Iterator[tuple[str, str]]:
    port = unused_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mft_tui", "serve", "--port", str(port), *arguments],
        env={**os.environ, "MFT_HOME": str(state.root), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    assert process.stderr is not None
    said = process.stderr.readline()
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)
            break
        except urllib.error.HTTPError:
            break
        except OSError:
            assert time.monotonic() < end, "the server never answered"
            time.sleep(0.1)
    try:
        yield address, said
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def local(state: StateFolder) -> Iterator[tuple[str, str]]:
    """Served to this machine alone."""
    add_run(state, 1, name="seen in a browser")
    yield from _serve(state)


@pytest.fixture
def open_to_all(state: StateFolder) -> Iterator[tuple[str, str]]:
    """Served on every address."""
    yield from _serve(state, "--host", "0.0.0.0")


@pytest.mark.slow
async def test_a_page_and_its_socket_bring_the_runs(local: tuple[str, str]) -> None:
    address, _ = local
    shown = b""
    async with aiohttp.ClientSession() as session:
        async with session.get(address) as page:
            assert "mft-tui" in await page.text()
        async with session.ws_connect(f"{address}/ws?width=100&height=30") as socket:
            end = time.monotonic() + 60
            while b"seen in a browser" not in shown:
                assert time.monotonic() < end
                message = await asyncio.wait_for(socket.receive(), 60)
                if message.type == aiohttp.WSMsgType.BINARY:
                    shown += message.data


@pytest.mark.slow
async def test_a_page_of_another_site_is_refused(local: tuple[str, str]) -> None:
    address, _ = local
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{address}/ws", headers={"Origin": "http://evil.example"})
        assert refused.value.status == 403


@pytest.mark.slow
async def test_a_name_of_another_site_that_leads_here_is_refused(local: tuple[str, str]) -> None:
    address, _ = local
    port = address.rsplit(":", 1)[1]
    rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
    async with aiohttp.ClientSession() as session:
        async with session.get(address, headers=rebound) as answer:
            assert answer.status == 403
            assert "--public-url" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{address}/ws", headers=rebound)
        assert refused.value.status == 403
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
            async with session.get(address, headers={"Host": host}) as answer:
                assert answer.status == 200


@pytest.mark.slow
async def test_a_proxys_public_name_is_answered_to(state: StateFolder) -> None:
    for address, _ in _serve(state, "--public-url", "https://runs.example/"):
        public = {"Host": "runs.example", "Origin": "https://runs.example"}
        async with aiohttp.ClientSession() as session:
            async with session.get(address, headers=public) as answer:
                assert answer.status == 200
            async with session.get(address, headers={"Host": "other.example"}) as answer:
                assert answer.status == 403


@pytest.mark.slow
async def test_beyond_loopback_a_token_is_asked_for(open_to_all: tuple[str, str]) -> None:
    address, said = open_to_all
    token = said.split("token=")[1].strip()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        for attempt in ("", "?token=wrong"):
            async with session.get(f"{address}/{attempt}") as answer:
                assert answer.status == 403
        async with session.get(f"{address}/?token={token}") as answer:
            assert answer.status == 200
        async with session.get(address) as answer:
            assert answer.status == 200


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_in_chromium_the_runs_table_is_browsed_and_a_run_opened(
    local: tuple[str, str], tmp_path: Path
) -> None:
    address, _ = local
    async with visit(address) as browser:
        await browser.shows("seen in a browser")
        assert len(set(await browser.picture(tmp_path / "home.png"))) > 1
        await browser.press("/")
        await browser.type("kind:evaluate")
        await browser.shows("No run matches the filter")
        await browser.press("Escape")
        await browser.shows("seen in a browser")
        await browser.press("Enter")
        await browser.shows("line 199")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_in_chromium_the_wizards_first_steps_are_taken(
    local: tuple[str, str], data: Path, model: Path, tmp_path: Path
) -> None:
    address, _ = local
    async with visit(address) as browser:
        await browser.shows("seen in a browser")
        await browser.press("n")
        await browser.shows("task folders")
        await browser.type(str(data))
        await browser.shows("1 problem")
        await browser.goes_to("the base model", "F3")
        await browser.type(str(model))
        await browser.shows("vocabulary")
        await browser.goes_to("memory of one rank", "F3")
        await browser.shows("fits")
        await browser.picture(tmp_path / "hardware.png")
        await browser.goes_to("padding_mode", "F3")

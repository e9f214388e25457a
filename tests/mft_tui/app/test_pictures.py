"""Every screen as it looks, at both sizes: the clock stands still, the cursor does not blink.

The pictures in ``docs/pictures`` are what the README shows and what a screen is held against.
``MFT_PICTURES=renew pytest tests/mft_tui/app/test_pictures.py`` takes them anew; then look at them.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from mft_tui.app import MftApp
from mft_tui.screens import monitor
from mft_tui.screens.wizard import hardware_step
from runners.config import launch_line
from runners.hardware import probe
from runners.hardware.host import Cpus, HostMemory
from runners.hardware.sampler import GpuSampler
from runners.lifecycle.folders import StateFolder
from tests.conftest import PROJECT
from tests.mft_tui.app import showcase
from tests.mft_tui.app.conftest import NOW
from tests.mft_tui.app.scenes import SCENES
from tests.runners.hardware.fake_nvml import FakeNvml, h100

PICTURES = PROJECT / "docs" / "pictures"
SIZES = {"80x24": (80, 24), "160x50": (160, 50)}
TOO_SMALL = {"58x24": (58, 24), "80x18": (80, 18)}
SIZES_OF = {**dict.fromkeys(SCENES, SIZES), "too-small": TOO_SMALL}


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MftApp:
    """The app in a state folder that has the same name everywhere, on a machine of two H100s."""
    home = tmp_path / "home"
    if request.getfixturevalue("scene") == "empty":
        home.mkdir()
    else:
        showcase.fill(home)
    monkeypatch.chdir(home)
    monkeypatch.setenv("MFT_HOME", ".")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    nvml = FakeNvml([h100(n, used=61 * 2**30, utilisation=97 - n) for n in range(2)])
    seen = probe.detect(nvml, {})
    seen = replace(
        seen,
        cpus=Cpus("Some CPU", 32, 32, 32, None),
        memory=HostMemory(512 * 2**30, 480 * 2**30, None),
    )
    for module, name in ((hardware_step, "_detect"), (probe, "detect")):
        monkeypatch.setattr(module, name, lambda *_: seen)
    monkeypatch.setattr(monitor, "_detect_gpus", lambda: seen.gpus)
    monkeypatch.setattr(monitor, "goes_on_here", lambda run: run.status == "running")
    for module in (monitor, hardware_step):
        monkeypatch.setattr(module, "_open_sampler", lambda: GpuSampler(nvml).__enter__())
    # The review shows the interpreter and our files, which lie elsewhere on each machine.
    argv_defaults = launch_line.accelerate_argv.__kwdefaults__
    monkeypatch.setitem(argv_defaults, "python", "python")
    monkeypatch.setitem(argv_defaults, "defaults", Path("accelerate.json"))
    made = MftApp(StateFolder(Path()), clock=lambda: NOW, pulse=3600)
    made.animation_level = "none"
    return made


@pytest.mark.parametrize(
    ("scene", "size"), [(scene, size) for scene in SCENES for size in SIZES_OF[scene]]
)
async def test_a_screen_looks_as_in_its_picture(
    scene: str, size: str, app: MftApp, tmp_path: Path
) -> None:
    picture = PICTURES / f"{scene}-{size}.svg"
    async with app.run_test(size=SIZES_OF[scene][size]) as pilot:
        await SCENES[scene](pilot)
        for line in app.screen.query(Input):
            line.cursor_blink = False
        await pilot.pause()
        seen = app.export_screenshot(title="mft-tui")
        # What is read in the background may come later on a busy machine.
        for _ in range(50):
            if not picture.is_file() or picture.read_text(encoding="utf-8") == seen:
                break
            await pilot.pause(0.1)
            seen = app.export_screenshot(title="mft-tui")
    if os.environ.get("MFT_PICTURES"):
        picture.write_text(seen, encoding="utf-8")
    fresh = tmp_path / picture.name
    fresh.write_text(seen, encoding="utf-8")
    assert picture.is_file(), f"no picture yet: see {fresh}, renew with MFT_PICTURES=renew"
    same = picture.read_text(encoding="utf-8") == seen
    assert same, f"{picture} looks otherwise now: see {fresh}, renew with MFT_PICTURES=renew"

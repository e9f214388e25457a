"""What all tests share: a state folder of their own, and the material beside the project."""

import os
import signal
from pathlib import Path

import pytest

# Before anything loads OpenMP: threads that spin while they wait starve tests that run beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A runner in the background (nohup, `&` in a script) ignores these, and so would every program
# that a test starts and then interrupts.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.SIG_DFL)

PROJECT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the exhaustive sweeps too")
    parser.addoption("--bench", action="store_true", help="run the measurements")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, option, target in (("full", "--full", "test-full"), ("bench", "--bench", "bench")):
        if config.getoption(option):
            continue
        skip = pytest.mark.skip(reason=f"runs with {option} (make {target})")
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def mft_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, so that no test sees the person's runs."""
    home = tmp_path / "mft-home"
    monkeypatch.setenv("MFT_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return home


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real benchmarks, tokenizers and goldens beside the project."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (real benchmarks, tokenizer, goldens), which is not here")
    return folder

"""What must not be imported, held by importing for real in a fresh process.

Each guard says what a person would lose if it broke. The arrows between the rooms are
import-linter's to hold; these are about cost and about what a bare `pip install mft-tui` has.
"""

import functools
import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "accelerate", "deepspeed", "bitsandbytes")
LIGHT_ROOMS = (
    "mft_tui",
    "db",
    "runners.config",
    "runners.lifecycle",
    "runners.hardware",
    "runners.benchmarks",
    "runners.evaluate",
    "runners.submission",
)
JOB_ROOMS = (
    "runners.config",
    "runners.data",
    "runners.benchmarks",
    "runners.evaluate",
    "runners.hardware",
    "runners.submission",
)

# Programs that are shown to the sandbox and run there by their path, never imported.
IN_THE_SANDBOX = ("runners.evaluate.languages.python_forkserver",)

WALK = """
import importlib, pkgutil
room = importlib.import_module({room!r})
for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    if not found.name.endswith("__main__") and found.name not in {programs!r}:
        importlib.import_module(found.name)
"""


def walk(room: str) -> str:
    """Code that imports every module of a room."""
    return WALK.format(room=room, programs=IN_THE_SANDBOX)


@functools.cache
def loaded_after(code: str) -> frozenset[str]:
    """Names of all modules in a fresh process after ``code`` has run."""
    report = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def top_level(modules: frozenset[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


HELP = """
import sys
sys.argv = ["mft-tui", "--help"]
from mft_tui.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


def test_help_imports_nothing_that_takes_time() -> None:
    """Help and completion answer while a person types: at most 0.2 s."""
    loaded = top_level(loaded_after(HELP))
    slow = {
        "textual",
        "sqlalchemy",
        "sqlmodel",
        "alembic",
        "numpy",
        "tokenizers",
        "huggingface_hub",
    }
    assert not loaded & (slow | set(HEAVY))


def test_the_app_paints_before_the_database_and_the_training_stack_are_imported() -> None:
    """The first paint may take 1.6 times as long as a bare Textual app's."""
    loaded = top_level(loaded_after("import mft_tui.app"))
    assert "textual" in loaded
    assert not loaded & {*HEAVY, "sqlalchemy", "sqlmodel", "alembic"}


def test_naming_the_database_package_does_not_load_sqlalchemy() -> None:
    """Every command imports db; most never open it."""
    assert not top_level(loaded_after("import db")) & {"sqlalchemy", "sqlmodel", "alembic"}


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_a_light_room_never_needs_the_training_stack(room: str) -> None:
    """A bare install has no torch: the app, the tracker and the evaluation must work without it."""
    loaded = top_level(loaded_after(walk(room)))
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("room", JOB_ROOMS)
def test_a_job_knows_neither_the_app_nor_the_database(room: str) -> None:
    """A run folder must run on a machine that has only what the job needs."""
    loaded = top_level(loaded_after(walk(room)))
    assert not loaded & {"mft_tui", "db", "textual", "sqlmodel", "sqlalchemy"}


def test_preparing_data_needs_no_torch() -> None:
    """Token caches are built by worker processes, each of which would pay for it."""
    loaded = top_level(loaded_after(walk("runners.data")))
    assert not loaded & set(HEAVY)


def test_looking_at_the_hardware_loads_the_driver_binding_only_when_asked() -> None:
    """The screens import the probe; only looking opens NVML."""
    assert "pynvml" not in loaded_after("import runners.hardware.probe, runners.hardware.sampler")


@pytest.mark.parametrize(
    "command", ["doctor", "estimate", "validate", "evaluate", "export", "runs"]
)
def test_the_help_of_a_command_does_not_load_the_app(command: str) -> None:
    """`mft-tui COMMAND --help` answers at once."""
    code = HELP.replace('"--help"', f'"{command}", "--help"')
    loaded = top_level(loaded_after(code))
    assert not loaded & {"textual", "sqlalchemy", *HEAVY}

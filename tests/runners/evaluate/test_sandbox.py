"""The walls: the self-check passes, and nothing that a program does outlives it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from runners.config.evaluate import EvaluateConfig
from runners.errors import MissingInputError, RefusedError
from runners.evaluate import selfcheck
from runners.evaluate.languages.python import Python
from runners.evaluate.sandbox.base import MIB, Limits, Mount, Program
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from runners.evaluate.sandbox.cgroup import Cage
from runners.evaluate.sandbox.choose import make_sandbox
from runners.evaluate.sandbox.direct import DirectSandbox
from runners.evaluate.sandbox.seccomp import seccomp_filter

LIMITS = Limits(5.0, 30.0, memory_bytes=256 * MIB, processes=64, disk_bytes=16 * MIB)


def python(code: str) -> Program:
    toolchain = Python().discover()
    return Program(
        argv=[toolchain.programs["python"], "-c", code],
        mounts=toolchain.mounts,
        environment=toolchain.environment,
    )


def processes_with(word: str) -> list[str]:
    """Command lines of the processes with ``word`` in their command line or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            texts = [(folder / name).read_bytes() for name in ("cmdline", "environ")]
        except OSError:  # gone, or its memory is
            continue
        if any(word.encode() in text for text in texts):
            found.append(texts[0].replace(b"\0", b" ").decode(errors="replace"))
    return found


def mounts_of_the_machine() -> list[str]:
    """Without those below the folder for temporary files: other tests fill disks of their own."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if not line.split()[1].startswith(tempfile.gettempdir())]


@pytest.mark.slow
def test_bubblewrap_shows_every_behaviour_of_the_self_check(box: BwrapSandbox) -> None:
    failed = [check for check in selfcheck.run() if not check.ok]

    assert failed == []


@pytest.mark.slow
def test_the_self_check_passes_where_no_control_group_enforces_limits() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap: apt-get install -y bubblewrap")

    failed = [
        check for check in selfcheck.run(lambda: BwrapSandbox(cage=lambda: None)) if not check.ok
    ]

    assert failed == []


def test_the_self_check_sees_a_wall_that_is_missing() -> None:
    """Each of these sandboxes lacks one wall, which the named check has to find."""
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap: apt-get install -y bubblewrap")

    def failed(*changed: tuple[str, str]) -> set[str]:
        checks = selfcheck.run(lambda: Weakened(dict(changed)))
        return {check.name for check in checks if not check.ok}

    assert failed(("--unshare-all", "--unshare-pid")) >= {
        "no network by IPv4",
        "no unix sockets of this machine",
    }
    if os.geteuid() == 0:  # nobody else could read it anywhere
        assert "/etc/shadow is not there" in failed(("/etc/ld.so.cache", "/etc"))


class Weakened(BwrapSandbox):
    """A bubblewrap with some words of its command line replaced."""

    def __init__(self, changed: dict[str, str]) -> None:
        super().__init__()
        self._changed = changed

    def _command(
        self, program: Program, limits: Limits, cage: Cage | None, open_files: ExitStack
    ) -> tuple[list[str], list[int], int]:
        argv, fds, status = super()._command(program, limits, cage, open_files)
        return [self._changed.get(word, word) for word in argv], fds, status


HOSTILE = {
    "double-forked daemon": "import os, time\nif os.fork() == 0:\n os.setsid()\n"
    " if os.fork() == 0:\n  os.execvp('sleep', ['sleep', '86400'])\n os._exit(0)\n"
    "time.sleep(0.2); raise SystemExit(3)",
    "SIGTERM ignored": "import signal, time\nfor s in range(1, 32):\n"
    " try: signal.signal(s, signal.SIG_IGN)\n except (OSError, ValueError): pass\n"
    "time.sleep(86400)",
    "kills its parents": "import os, signal\nfor p in (os.getppid(), 1, 0, -1):\n"
    " try: os.kill(p, signal.SIGKILL)\n except OSError: pass\nraise SystemExit(3)",
    "100,000 files": "import sys\nfor n in range(100_000): open(f'/work/{n}', 'w').write('x')\n"
    "raise SystemExit(3)",
    "fills shared memory": "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "other processes' environment": "import os\nfor p in os.listdir('/proc'):\n"
    " if p.isdigit() and int(p) > 20: raise SystemExit(0)\nraise SystemExit(3)",
    "unix socket of the machine": "import socket\ns = socket.socket(socket.AF_UNIX)\n"
    "s.connect('/var/run/docker.sock')",
    "a link to the outside": "import os\nos.symlink('/etc', '/work/out')\n"
    "open('/work/out/shadow').read()",
    "a kernel knob": "open('/proc/sys/vm/swappiness', 'r+').write('60')",
    "the system request key": "open('/proc/sysrq-trigger', 'a')",
    "vsock": "import socket\nsocket.socket(40, socket.SOCK_STREAM)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained_and_leaves_nothing(box: BwrapSandbox, name: str) -> None:
    mounts = mounts_of_the_machine()
    # Other tests run hostile programs at the same time: this one's processes are known by a mark.
    mark = f"# {uuid.uuid4().hex}"
    program = python(f"{HOSTILE[name]}\n{mark}")
    program = replace(program, environment={**program.environment, "MARK": mark})

    outcome = box.run(program, Limits(5.0, 6.0, 256 * MIB, 64, 16 * MIB))

    assert not outcome.ok
    assert processes_with(mark) == []
    assert mounts_of_the_machine() == mounts
    assert box.run(python("print('undisturbed')"), LIMITS).stdout == b"undisturbed\n"


def test_a_collected_file_is_the_standard_output_and_the_rest_is_talk(box: BwrapSandbox) -> None:
    outcome = box.run(
        Program(argv=["/bin/sh", "-c", "echo talk; echo made > made"], collect="made"), LIMITS
    )

    assert (outcome.stdout, outcome.stderr) == (b"made\n", b"talk\n")


def test_a_link_in_place_of_a_collected_file_shows_only_the_inside(box: BwrapSandbox) -> None:
    outcome = box.run(
        Program(argv=["/bin/sh", "-c", "ln -s /etc/shadow made"], collect="made"), LIMITS
    )

    assert not outcome.ok
    assert outcome.stdout == b""


@pytest.mark.parametrize("words", ["bwrap: no permissions", "sh: 1: Cannot fork"])
@pytest.mark.parametrize("status", [1, 125])
def test_a_program_that_speaks_like_the_sandbox_is_still_the_program(
    box: BwrapSandbox, words: str, status: int
) -> None:
    outcome = box.run(Program(argv=["/bin/sh", "-c", f"echo '{words}' >&2; exit {status}"]), LIMITS)

    assert (outcome.exit_code, outcome.stderr) == (status, f"{words}\n".encode())


def test_output_is_counted_whole_and_kept_in_part(box: BwrapSandbox) -> None:
    outcome = box.run(python("print('x' * 100_000)"), LIMITS)

    assert (outcome.stdout_bytes, len(outcome.stdout)) == (100_001, 4096)


def test_a_mount_is_read_only(box: BwrapSandbox, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    program = Program(
        argv=["/bin/sh", "-c", "cat /opt/x/kept; echo lost > /opt/x/kept"],
        mounts=(Mount(tmp_path, "/opt/x"),),
    )

    outcome = box.run(program, LIMITS)

    assert not outcome.ok
    assert (tmp_path / "kept").read_text() == "kept"


def test_control_groups_are_removed_with_the_sandbox() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap: apt-get install -y bubblewrap")
    sandbox = BwrapSandbox()
    cage = sandbox._cage
    if cage is None:
        pytest.skip("this machine lets us make no control group")
    folders = cage.folders

    sandbox.close()

    assert [folder for folder in folders if folder.exists()] == []


def test_no_sandbox_at_all_has_to_be_asked_for_twice() -> None:
    with pytest.raises(RefusedError, match="untrusted programs run as you"):
        DirectSandbox(consented=False)


def test_without_a_sandbox_limits_still_hold() -> None:
    sandbox = DirectSandbox(consented=True)

    outcome = sandbox.run(python("while True: pass"), Limits(1.0, 20.0))

    assert not outcome.ok
    assert sandbox.run(python("print('next')"), LIMITS).stdout == b"next\n"


DAEMON = "(setsid sh -c 'sleep 86400; echo MARK' >/dev/null 2>&1 &); "


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "sleep 86400"])
def test_without_a_sandbox_a_daemon_ends_with_its_program(end: str) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    script = DAEMON.replace("MARK", mark) + end

    outcome = DirectSandbox(consented=True).run(
        Program(argv=["/bin/sh", "-c", script]), Limits(5.0, 1.0)
    )

    assert outcome.ended == ("timeout" if end.startswith("sleep") else "exited")
    assert outcome.exit_code == {"exit 0": 0, "exit 3": 3}.get(end)
    assert processes_with(mark) == []


def test_without_a_sandbox_nothing_outlives_an_evaluation_that_was_killed(
    tmp_path: Path,
) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    script = DAEMON.replace("MARK", mark) + "sleep 86400"
    code = (
        "from runners.evaluate.sandbox.direct import DirectSandbox\n"
        "from runners.evaluate.sandbox.base import Limits, Program\n"
        f"program = Program(argv=['/bin/sh', '-c', {script!r}])\n"
        "DirectSandbox(consented=True).run(program, Limits(60.0, 600.0))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    evaluation = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 60
    while len(processes_with(f"echo {mark}")) < 3:  # ours, its shell and the daemon
        assert time.monotonic() < deadline
        time.sleep(0.05)

    evaluation.kill()
    evaluation.wait()

    while processes_with(mark) or [*tmp_path.iterdir()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_sandbox_files_and_descriptors_are_bounded() -> None:
    sandbox = DirectSandbox(consented=True)
    limits = Limits(5.0, 20.0, disk_bytes=1 << 20, open_files=32)

    large = sandbox.run(python("open('x', 'wb').write(bytes(1 << 21))"), limits)
    many = sandbox.run(python("x = [open('/dev/null') for _ in range(64)]"), limits)

    assert not large.ok
    assert b"Too many open files" in many.stderr
    crashed = sandbox.run(python("import os; os.abort()"), limits)
    assert (crashed.ended, crashed.exit_code) == ("exited", -6)


def test_a_missing_sandbox_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingInputError) as caught:
        make_sandbox(EvaluateConfig.model_construct(sandbox="bwrap"))

    assert "apt-get install -y bubblewrap" in str(caught.value)


def test_the_filter_is_whole_instructions_for_known_machines_only() -> None:
    for machine in ("x86_64", "aarch64"):
        code = seccomp_filter(machine)
        assert code is not None
        assert len(code) % 8 == 0
    assert seccomp_filter("riscv64") is None

"""``--sandbox none``: programs run as the person, in a temporary folder, with limits and no walls.

For machines where neither bubblewrap nor a container engine can be had and the programs are
trusted. It is refused unless it was asked for twice.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from runners.errors import RefusedError
from runners.evaluate.sandbox.base import (
    KEPT_OUTPUT,
    WORK,
    Limits,
    Outcome,
    Program,
    SandboxError,
    Server,
)
from runners.evaluate.sandbox.halt import Halt
from runners.evaluate.sandbox.process import run_process
from runners.evaluate.sandbox.server import PipeServer
from runners.evaluate.sandbox.watchdog import Crowd, tree_usage

_LIMITS = (
    'ulimit -c 0; ulimit -S -t "$1"; ulimit -H -t "$(($1 + 2))"; '
    'ulimit -f "$2"; ulimit -n "$3"; shift 3; exec "$@"'
)
_KEEPER = Path(__file__).parent / "keeper.py"
_COLLECT = 'out=$1; shift; "$@" 1>&2 </dev/null || exit $?; exec cat -- "$out"'
_PATIENCE_SECONDS = 10.0
_PASSED_ON = ("PATH", "LANG", "LC_ALL")


def unconfirmed() -> RefusedError:
    """What is told to whoever asked for no sandbox only once."""
    return RefusedError(
        "without a sandbox, untrusted programs run as you, with your files and network",
        where="sandbox=none",
        fix="Say so twice: --sandbox none --i-understand; or install bubblewrap.",
    )


class DirectSandbox:
    """No sandbox at all. Paths that a program knows from inside one are turned into real ones."""

    name = "none"

    def __init__(self, *, consented: bool, halt: Halt | None = None) -> None:
        if not consented:
            raise unconfirmed()
        self._halt = halt

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run in a fresh temporary folder, which is removed with everything in it."""
        folder = Path(tempfile.mkdtemp(prefix="mft-run-"))
        try:
            argv, environment = self._lay_out(program, limits, folder)
            with tempfile.TemporaryFile() as stdin:
                stdin.write(program.stdin)
                stdin.seek(0)
                return run_process(
                    argv,
                    limits,
                    stdin=stdin.fileno(),
                    keep_stdout=program.keep_stdout,
                    keep_stderr=KEPT_OUTPUT,
                    cwd=str(folder),
                    environment=environment,
                    halt=self._halt,
                    watch=tree_usage,
                    crowd=Crowd(limits.processes),
                    end=_end_tree,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def serve(self, program: Program, limits: Limits) -> Server:
        """Start a server in a temporary folder of its own."""
        if program.nested:
            raise SandboxError("without a sandbox there are no smaller ones inside")
        folder = Path(tempfile.mkdtemp(prefix="mft-serve-"))
        argv, environment = self._lay_out(program, limits, folder)
        return PipeServer(
            ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(folder), *argv],
            limits,
            environment=environment,
            halt=self._halt,
            watch=tree_usage,
            crowd=Crowd(limits.processes),
            end=_end_tree,
            after=lambda: shutil.rmtree(folder, ignore_errors=True),
        )

    def close(self) -> None:
        """Nothing is held."""

    def _lay_out(
        self, program: Program, limits: Limits, folder: Path
    ) -> tuple[list[str], dict[str, str]]:
        real = _outside(program, folder)
        for name, content in program.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Settings for a toolchain name paths; a program's own text is left alone.
            ours = name.startswith(".")
            path.write_bytes(real(content.decode()).encode() if ours else content)
            path.chmod(0o755)
        argv = [real(word) for word in program.argv]
        if program.collect is not None:
            argv = ["/bin/sh", "-c", _COLLECT, "sh", program.collect, *argv]
        environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        environment["HOME"] = str(folder)
        environment |= {key: real(value) for key, value in program.environment.items()}
        cpu = str(max(1, round(limits.cpu_seconds)))
        bounds = [cpu, str(limits.disk_bytes // 512), str(limits.open_files)]
        kept = [sys.executable, "-I", "-S", str(_KEEPER), str(folder)]
        return [*kept, "/bin/sh", "-c", _LIMITS, "sh", *bounds, *argv], environment


def _outside(program: Program, folder: Path) -> Callable[[str], str]:
    """Turns text with paths of the sandbox into text with this machine's paths."""
    places = [(mount.target, str(mount.source)) for mount in program.mounts]
    # numpy's folder is shown below a site folder that exists only inside.
    for mount in program.mounts:
        if mount.target.startswith("/opt/site/"):
            places.append(("/opt/site", str(mount.source.parent)))
        if mount.target.startswith("/opt/npm/node_modules/"):
            places.append(("/opt/npm/node_modules", str(mount.source.parent)))
    places.append((WORK, str(folder)))
    outside = dict(places)
    # In one go, as a real path may hold what looks like one of the sandbox's; the longest first.
    known = "|".join(map(re.escape, sorted(outside, key=len, reverse=True)))
    path = re.compile(rf"(?<![\w./-])({known})(?![\w.-])")

    def real(text: str) -> str:
        return path.sub(lambda found: outside[found[1]], text)

    return real


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    """Ask the keeper to end everything below it; it knows those too that left the session."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    pidfd = os.pidfd_open(process.pid)
    try:
        ended, _, _ = select.select([pidfd], [], [], _PATIENCE_SECONDS)
    finally:
        os.close(pidfd)
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

"""The docker provider: an image of ours, run without network, privileges or a writable root.

Files travel as a tar archive on standard input into the container's own tmpfs, so no folder of
this machine is shared. The toolchains are the image's (``Dockerfile`` beside this file).
"""

import contextlib
import io
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runners.errors import MissingInputError
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

DOCKERFILE = Path(__file__).parent / "Dockerfile"


def build_line(image: str) -> str:
    """The command that makes the image."""
    return f"docker build -t {image} -f {DOCKERFILE} {DOCKERFILE.parent}"


# Standard input is spent on the archive (tar reads it to its end), so the program's own is a file
# in it, gone before the program begins.
_STDIN = ".stdin"
_UNPACK = f'tar xf - && exec <{_STDIN} && rm {_STDIN} && exec "$@"'
_COLLECT = (
    f"tar xf - && rm {_STDIN} && out=$1 && shift && "
    '{ "$@" 1>&2 </dev/null || exit $?; } && exec cat -- "$out"'
)
_LABEL = "mft-tui.owner"
_STATE = "{{.State.Status}} {{.State.OOMKilled}}"
# Containers outlive the client that was killed, so each has an end of its own, well after ours.
_GRACE_SECONDS = 60


class DockerSandbox:
    """Runs each program in a container of its own."""

    name = "docker"

    def __init__(self, image: str, *, executable: str = "docker", halt: Halt | None = None) -> None:
        self._image = image
        self._executable = executable
        self._halt = halt

    def command(self, program: Program, limits: Limits, container: str) -> list[str]:
        """The engine's command line for a program."""
        argv = [self._executable, "run", "--interactive", "--name", container]
        argv += ["--label", f"{_LABEL}={os.getpid()}"]
        argv += ["--network", "none", "--read-only", "--cap-drop", "ALL"]
        argv += ["--security-opt", "no-new-privileges", "--user", "1000:1000", "--init"]
        argv += ["--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)]
        argv += ["--pids-limit", str(limits.processes)]
        cpu = max(1, round(limits.cpu_seconds))
        for name, value in (
            ("cpu", f"{cpu}:{cpu + 2}"),
            ("core", "0"),
            ("fsize", str(limits.disk_bytes)),
            ("nofile", str(limits.open_files)),
        ):
            argv += ["--ulimit", f"{name}={value}"]
        for folder in ("/tmp", WORK):  # noqa: S108 - the container's own
            size = f"{folder}:rw,exec,nosuid,nodev,size={limits.disk_bytes},mode=1777"
            argv += ["--tmpfs", size]
        for mount in program.mounts:
            argv += ["--volume", f"{mount.source}:{mount.target}:ro"]
        environment: Mapping[str, str] = {"HOME": WORK, "LANG": "C.UTF-8", **program.environment}
        for key, value in environment.items():
            argv += ["--env", f"{key}={value}"]
        argv += ["--workdir", WORK, self._image]
        argv += ["timeout", "-s", "KILL", str(round(limits.wall_seconds) + _GRACE_SECONDS)]
        argv += ["/bin/sh", "-c"]
        if program.collect is None:
            return [*argv, _UNPACK, "sh", *program.argv]
        return [*argv, _COLLECT, "sh", program.collect, *program.argv]

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run in a fresh container. Raises ``SandboxError`` when the engine fails."""
        container = f"mft-{secrets.token_hex(8)}"
        states: list[str] = []
        stdin = os.memfd_create("mft", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(stdin), "wb") as file:
                file.write(archive({**program.files, _STDIN: program.stdin}))
            os.lseek(stdin, 0, os.SEEK_SET)
            outcome = run_process(
                self.command(program, limits, container),
                limits,
                stdin=stdin,
                keep_stdout=program.keep_stdout,
                keep_stderr=KEPT_OUTPUT,
                halt=self._halt,
                end=lambda process: states.append(self._end(process, container)),
            )
        finally:
            os.close(stdin)
        return _judged_by(states[0], outcome, build_line(self._image))

    def serve(self, program: Program, limits: Limits) -> Server:
        """Not offered: every program gets a container, the plain way."""
        raise SandboxError("the docker sandbox keeps no servers")

    def close(self) -> None:
        """Nothing is held."""

    def _end(self, process: subprocess.Popen[bytes], container: str) -> str:
        """Remove the container; the client's death does not. What the engine says of its state."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, 9)
        told = _ask(self._executable, "inspect", "--format", _STATE, container)
        _ask(self._executable, "rm", "--force", container)
        return told


def _judged_by(state: str, outcome: Outcome, build: str) -> Outcome:
    """The outcome, by what the engine says of the container.

    A program may end with any status, 125 of a failing engine included. Raises ``SandboxError``
    where there was no container, or none that was started.
    """
    status, _, out_of_memory = state.partition(" ")
    if status in {"", "created"} and outcome.ended == "exited":
        raise SandboxError(
            f"the container engine failed: {outcome.stderr.decode(errors='replace').strip()}",
            fix=f"Build the image, if it is not there: {build}",
        )
    if out_of_memory == "true" and outcome.exit_code != 0:
        return replace(outcome, ended="memory_limit", exit_code=None)
    return outcome


def sweep_containers(executable: str = "docker") -> None:
    """Remove containers of evaluations that were killed before they could."""
    found = _ask(
        executable,
        *("ps", "--all", "--filter", f"label={_LABEL}"),
        *("--format", f'{{{{.ID}}}} {{{{.Label "{_LABEL}"}}}}'),
    )
    for line in found.splitlines():
        container, _, owner = line.partition(" ")
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _ask(executable, "rm", "--force", container)


def _ask(executable: str, *words: str) -> str:
    """What the engine prints; nothing when it fails."""
    asked = subprocess.run(
        [executable, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""


def archive(files: Mapping[str, bytes]) -> bytes:
    """The files as a tar archive that makes them executable and nobody's in particular."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def engine_or_error(executable: str = "docker") -> None:
    """Raise ``MissingInputError`` with what to do when no engine answers."""
    if shutil.which(executable) is None:
        raise MissingInputError(
            "docker is not installed", fix="apt-get install -y docker.io, or --sandbox bwrap"
        )
    asked = subprocess.run(
        [executable, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True
    )
    if asked.returncode != 0:
        words = asked.stderr.strip().splitlines() or ["it said nothing"]
        raise MissingInputError(
            f"no container engine answers ({words[-1]})",
            fix="systemctl start docker, or --sandbox bwrap",
        )

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
_ENGINE_FAULTS = (125,)
_OUT_OF_MEMORY = 137


class DockerSandbox:
    """Runs each program in a container of its own."""

    name = "docker"

    def __init__(self, image: str, *, executable: str = "docker", halt: Halt | None = None) -> None:
        self._image = image
        self._executable = executable
        self._halt = halt

    def command(self, program: Program, limits: Limits, container: str) -> list[str]:
        """The engine's command line for a program."""
        argv = [self._executable, "run", "--rm", "--interactive", "--name", container]
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
        argv += ["--workdir", WORK, self._image, "/bin/sh", "-c"]
        if program.collect is None:
            return [*argv, _UNPACK, "sh", *program.argv]
        return [*argv, _COLLECT, "sh", program.collect, *program.argv]

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run in a fresh container. Raises ``SandboxError`` when the engine fails."""
        container = f"mft-{secrets.token_hex(8)}"
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
                end=lambda process: self._end(process, container),
            )
        finally:
            os.close(stdin)
        if outcome.exit_code in _ENGINE_FAULTS:
            raise SandboxError(
                f"the container engine failed: {outcome.stderr.decode(errors='replace').strip()}",
                fix=f"Build the image, if it is not there: {build_line(self._image)}",
            )
        return outcome

    def serve(self, program: Program, limits: Limits) -> Server:
        """Not offered: every program gets a container, the plain way."""
        raise SandboxError("the docker sandbox keeps no servers")

    def close(self) -> None:
        """Nothing is held."""

    def _end(self, process: subprocess.Popen[bytes], container: str) -> None:
        """The client's death does not end the container; its name does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, 9)
        subprocess.run(
            [self._executable, "kill", container],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


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

"""The docker provider where no engine runs: its command line, and a stand-in for the engine.

The stand-in is a script that records what it was asked and runs the command in a temporary folder,
for texts that are trusted.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.evaluate.sandbox.base import MIB, Limits, Mount, Program, SandboxError
from runners.evaluate.sandbox.docker import DockerSandbox, archive, sweep_containers
from tests.runners.evaluate.conftest import NewRun, Rows

LIMITS = Limits(5.0, 30.0, memory_bytes=256 * MIB, processes=64, disk_bytes=16 * MIB)

ENGINE = f"""#!{sys.executable}
import json, os, subprocess, sys, tarfile, tempfile
words = sys.argv[1:]
with open(os.environ["ENGINE_LOG"], "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[0] == "version":
    print("25.0")
elif words[0] == "run":
    state = os.environ.get("ENGINE_STATE", "exited false")
    with open(os.environ["ENGINE_LOG"] + ".state", "w") as file:
        file.write(state)
    if state == "none":
        sys.exit("docker: no such image")
    command = words[words.index("the-image") + 1 :]
    with tempfile.TemporaryDirectory() as work:
        sys.exit(subprocess.run(command, cwd=work).returncode)
elif words[0] == "inspect":
    state = open(os.environ["ENGINE_LOG"] + ".state").read()
    sys.exit(1) if state == "none" else print(state)
elif words[0] == "ps":
    print(os.environ.get("ENGINE_CONTAINERS", ""))
"""


def test_the_container_has_no_network_no_privileges_and_a_read_only_root() -> None:
    argv = DockerSandbox("image").command(Program(argv=["true"], files={"a": b""}), LIMITS, "mft-1")

    line = " ".join(argv)
    for part in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--user 1000:1000",
        f"--memory {256 * MIB}",
        f"--memory-swap {256 * MIB}",
        "--pids-limit 64",
        "--ulimit cpu=5:7",
        f"--tmpfs /work:rw,exec,nosuid,nodev,size={16 * MIB},mode=1777",
    ):
        assert part in line
    assert "--privileged" not in line
    assert "--volume" not in line
    assert "/var/run/docker.sock" not in line


def test_parts_built_in_the_image_are_shown_read_only() -> None:
    program = Program(argv=["true"], mounts=(Mount(Path("/built"), "/opt/parts"),))

    argv = DockerSandbox("image").command(program, LIMITS, "mft-1")

    assert argv[argv.index("--volume") + 1] == "/built:/opt/parts:ro"


def test_files_travel_as_an_archive_and_not_by_a_shared_folder() -> None:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive({"a/b.txt": b"text"}))) as tar:
        (member,) = tar.getmembers()

    assert (member.name, member.mode, member.uid) == ("a/b.txt", 0o755, 0)


def stand_in(folder: Path) -> Path:
    """An engine that runs commands in a temporary folder of this machine."""
    engine = folder / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    return engine


def test_a_program_gets_its_standard_input_and_no_file_of_it(
    engine: Path,
) -> None:
    sandbox = DockerSandbox("the-image", executable=str(engine))
    program = Program(argv=["/bin/sh", "-c", "cat; ls -A"], files={"a": b""}, stdin=b"word\n")

    outcome = sandbox.run(program, LIMITS)

    assert (outcome.stdout, outcome.stderr) == (b"word\na\n", b"")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENGINE_LOG", str(tmp_path / "asked.jsonl"))
    return stand_in(tmp_path)


def test_a_programs_own_status_is_not_the_engines(engine: Path) -> None:
    sandbox = DockerSandbox("the-image", executable=str(engine))

    outcome = sandbox.run(Program(argv=["/bin/sh", "-c", "exit 125"]), LIMITS)

    assert (outcome.ended, outcome.exit_code) == ("exited", 125)


@pytest.mark.parametrize("state", ["none", "created false"])
def test_a_container_that_was_never_started_is_the_engines_fault(
    engine: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setenv("ENGINE_STATE", state)
    sandbox = DockerSandbox("the-image", executable=str(engine))

    with pytest.raises(SandboxError) as caught:
        sandbox.run(Program(argv=["/bin/sh", "-c", "exit 125"]), LIMITS)

    assert "docker build -t the-image" in str(caught.value)


def test_a_container_that_ran_out_of_memory_is_told_by_the_engine(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_STATE", "exited true")
    sandbox = DockerSandbox("the-image", executable=str(engine))

    outcome = sandbox.run(Program(argv=["/bin/sh", "-c", "exit 137"]), LIMITS)

    assert (outcome.ended, outcome.exit_code) == ("memory_limit", None)


def test_every_container_is_removed_and_ends_by_itself_if_we_cannot(
    engine: Path, tmp_path: Path
) -> None:
    DockerSandbox("the-image", executable=str(engine)).run(Program(argv=["true"]), LIMITS)

    asked = [json.loads(line) for line in (tmp_path / "asked.jsonl").open()]
    (run,) = [words for words in asked if words[0] == "run"]
    (removed,) = [words for words in asked if words[0] == "rm"]
    name = run[run.index("--name") + 1]
    assert removed == ["rm", "--force", name]
    at = run.index("the-image") + 1
    assert run[at : at + 4] == ["timeout", "-s", "KILL", "90"]


def test_containers_of_dead_evaluations_are_swept_up(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    listed = f"abandoned {gone.pid}\nours {os.getpid()}\nodd x"
    monkeypatch.setenv("ENGINE_CONTAINERS", listed)

    sweep_containers(str(engine))

    asked = [json.loads(line) for line in (tmp_path / "asked.jsonl").open()]
    assert [words for words in asked if words[0] == "rm"] == [["rm", "--force", "abandoned"]]


def test_an_evaluation_uses_the_images_toolchain_and_nothing_of_this_machine(
    new_run: NewRun, rows: Rows, tmp_path: Path
) -> None:
    if not Path("/usr/bin/g++").exists():
        pytest.skip("the stand-in runs on this machine, which has no g++: apt-get install g++")
    engine, log = stand_in(tmp_path), tmp_path / "asked.jsonl"
    task = "humanevalsynthesize-cpp"
    row = rows("cpp")[0]
    run = new_run(
        {task: [[row["prompt"] + row[kind] for kind in ("canonical_solution", "buggy_solution")]]},
        sandbox="docker",
        docker_image="the-image",
        way="plain",
    )

    code, said = run.finish(
        PATH=f"{engine.parent}:{os.environ['PATH']}",
        ENGINE_LOG=str(log),
        MFT_TOOLCHAINS=str(tmp_path / "toolchains"),
    )

    assert code == 0, said
    assert [verdict["passed"] for verdict in run.verdicts(task)] == [True, False]
    asked = [json.loads(line) for line in log.open()]
    runs = [words for words in asked if words[0] == "run"]
    assert runs
    assert not any("--volume" in words for words in runs)


def test_without_an_engine_the_line_that_helps_is_given(
    new_run: NewRun, rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    row = rows("cpp")[0]
    run = new_run({"humanevalsynthesize-cpp": [[row["prompt"]]]}, sandbox="docker")

    code, said = run.finish(PATH=str(tmp_path / "bin"))

    assert code == 5
    assert "docker is not installed" in said
    assert "--sandbox bwrap" in said

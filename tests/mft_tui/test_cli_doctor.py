"""``mft-tui doctor`` and ``mft-tui estimate`` as a person or a script meets them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from mft_tui.cli.doctor import (
    Check,
    Report,
    benchmark_checks,
    examine,
    gpu_checks,
    package_checks,
    show,
    state_checks,
)
from mft_tui.cli.estimate import parse_size
from runners.errors import ExitCode, UsageError
from runners.hardware.probe import detect
from tests.runners.hardware.fake_nvml import MACHINES, FakeNvml, eight_h100s
from tests.runners.hardware.shapes import QWEN25_7B

DOUBLE = Path(__file__).resolve().parents[1] / "runners/hardware/pynvml_on_path"


def mft(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "from mft_tui.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        env={**os.environ, "COLUMNS": "200", **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_machine_is_told_as_json_on_stdout_and_nothing_else() -> None:
    told = mft("doctor", "--json", "--quick")
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    areas = {check["area"] for check in report["checks"]}
    assert {"host", "packages", "toolchains", "state", "benchmarks"} <= areas
    assert report["hardware"]["cpus"]["usable"] >= 1
    for check in report["checks"]:
        assert check["state"] in {"works", "missing", "broken", "note"}
        if check["state"] == "missing":
            assert check["fix"], f"{check['name']} is missing and no line brings it"


WHOLE = ["works"] * 8
TOLD: dict[str, tuple[list[str], int, list[str]]] = {
    "eight_h100s": (WHOLE, 8, ["97% busy", "outside this container holds 60.0 GiB", "18 NVLinks"]),
    "mig_slices": (["note", "works"], 1, ["MIG with 3 slices", "2g.20gb, 20.0 GiB"]),
    "one_lost": (
        ["works", "works", "broken", "works"],
        3,
        ["counted by the driver but does not answer", "“GPU is lost”", "no job will be sent to it"],
    ),
    "odd_answers": (
        ["works"] * 4,
        4,
        ["GPU 0 memory: the driver answered", "GPU 1 power: the driver answered “Unknown Error”"],
    ),
    "no_driver": ([], 0, ["No NVIDIA driver answers here (Driver Not Loaded)"]),
    "no_gpu": ([], 0, ["counts no GPU; jobs run on the CPU"]),
}
"""The state of each GPU, how many a job can use, and what the command says of the machine."""


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_every_fake_machine_is_told_by_the_command_as_json(machine: str) -> None:
    states, usable, said = TOLD[machine]
    told = mft("doctor", "--json", "--quick", PYTHONPATH=str(DOUBLE), MFT_FAKE_NVML=machine)
    assert told.returncode == 0, told.stderr
    assert "Traceback" not in told.stderr
    report = json.loads(told.stdout)
    checks = [check for check in report["checks"] if check["area"] == "gpu"]
    whole = [c["state"] for c in checks if c["name"].removeprefix("GPU ").isdigit()]
    assert whole == states
    assert len(report["hardware"]["gpus"]) == len(states)
    assert len(report["hardware"]["usable"]) == usable
    details = "\n".join(check["detail"] for check in checks)
    for words in said:
        assert words in details


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_every_fake_machine_is_told_without_an_error(
    machine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = examine(nvml=MACHINES[machine](), environ={}, toolchains=lambda: iter(()))
    expected = {"eight_h100s": 8, "mig_slices": 2, "one_lost": 4, "odd_answers": 4}
    assert len(report.hardware.gpus) == expected.get(machine, 0)
    assert any(check.area == "gpu" for check in report.checks)
    json.dumps(report.to_json())
    show(report)
    assert "gpu" in capsys.readouterr().out


def test_a_busy_gpu_is_told_with_who_holds_its_memory() -> None:
    hardware = detect(FakeNvml(eight_h100s()), {}, process_name=lambda _: "ada: python")
    checks = by_name(gpu_checks(hardware))
    assert "97% busy" in checks["GPU 1"].detail
    assert "643 of 700 W" in checks["GPU 1"].detail
    assert checks["GPU 1 process 4242"].detail == "ada: python holds 60.0 GiB"


def test_a_hidden_gpu_and_a_lost_one_are_told_apart() -> None:
    hardware = detect(MACHINES["one_lost"](), {"CUDA_VISIBLE_DEVICES": "0"})
    checks = by_name(gpu_checks(hardware))
    assert checks["GPU 0"].state == "works"
    assert checks["GPU 1"].state == "note"
    assert "not visible to jobs" in checks["GPU 1"].detail
    assert checks["GPU 2"].state == "broken"


def test_packages_come_with_the_line_that_installs_them() -> None:
    installed = {"rich": "15.0", "torch": "2.13.0+cpu"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    requirements = [
        "rich>=13",
        "psutil>=6",
        'torch>=2.6; extra == "train"',
        'peft>=0.15; extra == "train"',
        'pytest; extra == "dev"',
    ]
    bare = detect(FakeNvml([]), {})
    checks = by_name(package_checks(bare, requirements=requirements, version=version))
    assert set(checks) == {"rich", "psutil", "torch", "peft"}
    assert (checks["psutil"].state, checks["peft"].state) == ("broken", "missing")
    assert checks["peft"].fix == "pip install 'mft-tui[train]'"
    assert checks["torch"].state == "works"
    server = detect(FakeNvml(eight_h100s()), {})
    checks = by_name(package_checks(server, requirements=requirements, version=version))
    assert checks["torch"].state == "broken"
    assert "without CUDA" in checks["torch"].detail


def test_a_state_folder_that_cannot_be_made_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("no folder")
    monkeypatch.setenv("MFT_HOME", str(blocked / "home"))
    assert by_name(state_checks())["folder"].state == "broken"


def test_looking_does_not_make_the_state_folder(mft_home: Path) -> None:
    checks = by_name(state_checks(disk_free=lambda _: 1 << 30))
    assert "not made yet" in checks["folder"].detail
    assert not mft_home.exists()
    assert checks["disk"].state == "note"
    assert checks["disk"].fix == "mft-tui runs gc"


def test_benchmarks_are_counted_by_task(mft_home: Path) -> None:
    assert by_name(benchmark_checks())["rows"].state == "missing"
    folder = mft_home / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "mbpp.jsonl").write_text("{}\n")
    partly = by_name(benchmark_checks())["rows"]
    assert partly.state == "missing"
    assert "mbpp" not in partly.detail
    (folder / "humanevalpack").mkdir()
    for language in ("python", "java", "js", "cpp", "go", "rust"):
        (folder / f"humanevalpack/{language}.jsonl").write_text("{}\n")
    assert by_name(benchmark_checks())["rows"].state == "works"


def test_a_broken_thing_makes_the_report_not_ok_and_is_shown_with_its_fix(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(
        detect(FakeNvml([]), {}),
        (
            Check(
                "sandbox", "no network", "broken", "reached [the] world", "apt install bubblewrap"
            ),
            Check("host", "CPU", "works", "2 cores"),
        ),
    )
    assert not report.ok
    show(report)
    shown = capsys.readouterr().out
    assert "reached [the] world" in shown
    assert "apt install bubblewrap" in shown
    assert "1 broken, 0 missing, 1 work" in shown


def test_slow_checks_run_only_when_asked_for() -> None:
    ran: list[bool] = []

    def slow() -> Iterator[Check]:
        ran.append(True)
        yield Check("sandbox", "trial", "works", "held")

    nvml: Any = FakeNvml([])
    without = examine(nvml=nvml, toolchains=lambda: iter(()))
    assert not any(check.area == "sandbox" for check in without.checks)
    trying = examine(nvml=nvml, toolchains=lambda: iter(()), sandbox=slow)
    assert any(check.area == "sandbox" for check in trying.checks)
    assert ran == [True]


@pytest.mark.slow
def test_the_sandbox_is_tried_for_real_unless_it_is_left_out() -> None:
    told = mft("doctor", "--json")
    assert told.returncode == 0, told.stderr
    tried = [check for check in json.loads(told.stdout)["checks"] if check["area"] == "sandbox"]
    assert tried
    assert all("\n" not in check["detail"] for check in tried)
    assert all(check["fix"] for check in tried if check["state"] == "broken")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(QWEN25_7B))
    path = tmp_path / "train.json"
    path.write_text(
        json.dumps(
            {
                "data_paths": ["data"],
                "pretrained_model_path": str(model),
                "gradient_checkpointing": "full",
            }
        )
    )
    return path


def test_a_run_is_estimated_for_a_machine_that_is_not_here(config: Path) -> None:
    told = mft("estimate", str(config), "--gpus", "8", "--gpu-name", "H100", "--json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer["verdict"] == "fits"
    assert answer["capacity"] == 80 << 30
    assert answer["ranks"] == 8
    assert sum(answer["parts"].values()) == answer["bytes_per_rank"]


def test_a_person_reads_the_verdict_first_and_the_ways_out_last(config: Path) -> None:
    told = mft(
        "estimate",
        str(config),
        *("--gpus", "1", "--gpu-memory", "24GB", "--set", "per_device_train_batch_size=8"),
        *("--samples", "20000", "--tokens", "9000000"),
    )
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].startswith("does not fit: a rank needs ")
    assert any("Any one of these makes it fit:" in line for line in lines)
    assert "2,500 optimizer steps" in told.stdout


def test_the_gpus_of_this_machine_are_taken_when_none_are_given(config: Path) -> None:
    told = mft(
        "estimate", str(config), "--json", PYTHONPATH=str(DOUBLE), MFT_FAKE_NVML="eight_h100s"
    )
    answer = json.loads(told.stdout)
    assert (answer["device"], answer["ranks"]) == ("cuda", 8)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--gpus", "1"], ExitCode.USAGE, "--gpu-memory 24GB"),
        (["--gpu-memory", "lots"], ExitCode.USAGE, "is not a size"),
        (["--samples", "5"], ExitCode.USAGE, "--tokens"),
        (["--samples", "5", "--count"], ExitCode.USAGE, "Leave out --count"),
        (["--set", "pretrained_model_path=/nowhere"], ExitCode.MISSING, "/nowhere"),
        (["--set", "lora_targets=attn"], ExitCode.USAGE, "down_proj"),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_the_way_out(
    config: Path, argv: list[str], code: int, words: str
) -> None:
    told = mft("estimate", str(config), *argv)
    assert told.returncode == code
    assert words in told.stderr
    assert told.stdout == ""
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 << 30), ("80 GiB", 80 << 30), ("512m", 512 << 20), ("1.5T", 3 << 39)],
)
def test_sizes_are_read_as_gpu_makers_print_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "24", "GB", "-1GB", "1e3GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_a_machine_without_user_namespaces_is_told_how_to_enable_them(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    refuses = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    (tools / "bwrap").write_text(refuses)
    (tools / "bwrap").chmod(0o755)

    told = mft("doctor", "--json", PATH=f"{tools}:/usr/bin:/bin")

    tried = [check for check in json.loads(told.stdout)["checks"] if check["area"] == "sandbox"]
    assert tried[0]["state"] == "broken"
    assert "No permissions to create new namespace" in tried[0]["detail"]
    assert "sysctl kernel.unprivileged_userns_clone=1" in tried[0]["fix"]


def test_a_machine_without_bubblewrap_is_told_the_line_that_installs_it(tmp_path: Path) -> None:
    told = mft("doctor", "--json", PATH=str(tmp_path))

    tried = [check for check in json.loads(told.stdout)["checks"] if check["area"] == "sandbox"]
    assert tried[0]["state"] == "broken"
    assert "apt-get install -y bubblewrap" in tried[0]["fix"]

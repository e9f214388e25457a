"""What the probe says of machines that are not here, and of this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.hardware.host import Cpus, HostMemory
from runners.hardware.probe import Hardware, detect, with_gpus
from tests.runners.hardware.fake_nvml import (
    DRIVER_NOT_LOADED,
    GIB,
    MACHINES,
    FakeNvml,
    eight_h100s,
    h100,
    mig_slices,
    odd_answers,
    one_lost,
)


def look(nvml: FakeNvml, **environ: str) -> Hardware:
    return detect(nvml, environ, process_name=lambda pid: "ada: python" if pid == 4242 else None)


def test_a_server_of_eight_gpus_is_told_in_full() -> None:
    nvml = FakeNvml(eight_h100s())
    found = look(nvml)
    assert len(found.gpus) == len(found.usable) == 8
    assert found.driver is not None
    assert (found.driver.version, found.driver.cuda) == ("550.54.15", (12, 4))
    assert found.bf16
    assert found.gpu_memory == 80 * GIB
    assert found.notes == ()
    busy = found.gpus[1]
    assert (busy.utilisation, busy.temperature, busy.power, busy.power_limit) == (
        97,
        66,
        643.2,
        700,
    )
    assert busy.nvlinks == 18
    assert busy.compute_capability == (9, 0)
    assert [(p.pid, p.memory, p.who) for p in busy.processes] == [(4242, 60 * GIB, "ada: python")]
    assert nvml.open == 0, "NVML was left open"


def test_everything_that_is_found_can_be_written_as_json() -> None:
    for name, machine in MACHINES.items():
        plain = look(machine()).to_json()
        assert json.loads(json.dumps(plain))["cpus"]["usable"] >= 1, name


def test_an_old_gpu_is_known_to_lack_bf16() -> None:
    found = look(FakeNvml([h100(0, name="Tesla V100-SXM2-32GB", capability=(7, 0))]))
    assert found.gpus[0].bf16 is False
    assert not found.bf16


def test_a_lost_gpu_is_counted_and_the_others_go_on() -> None:
    found = look(FakeNvml(one_lost()))
    assert [gpu.lost for gpu in found.gpus] == [False, False, True, False]
    assert [device.gpu_index for device in found.usable] == [0, 1, 3]
    assert any("GPU 2 is counted but does not answer" in note for note in found.notes)


def test_odd_answers_become_unknown_values_and_sentences() -> None:
    found = look(FakeNvml(odd_answers(), driver=b"\xff550", cuda=-5))
    first, second, third, fourth = found.gpus
    assert first.name == "NVIDIA H100 80GB HBM3"
    assert first.memory is None, "more used than there is cannot be"
    assert (second.temperature, second.utilisation, second.power) == (None, None, None)
    assert third.processes == ()
    assert third.bf16 is None
    assert [p.memory for p in fourth.processes] == [None, None]
    assert found.driver is not None
    assert found.driver.cuda is None
    assert found.gpu_memory is None, "one size is not known, so no smallest is"
    told = "\n".join(found.notes)
    for words in ("GPU 0 memory", "GPU 1 temperature", "GPU 2 processes", "CUDA version"):
        assert words in told


def test_what_a_card_does_not_have_is_no_oddity() -> None:
    gpu = h100(0, nvlinks=0, milliwatts=FakeNvml.NVMLError(3), temperature=FakeNvml.NVMLError(3))
    found = look(FakeNvml([gpu]))
    assert (found.gpus[0].power, found.gpus[0].temperature, found.gpus[0].nvlinks) == (
        None,
        None,
        None,
    )
    assert found.notes == ()


def test_mig_slices_are_listed_with_their_memory() -> None:
    found = look(FakeNvml(mig_slices()))
    slices = found.gpus[0].mig
    assert [part.index for part in slices] == [0, 1, 3]
    assert [part.memory.total // GIB for part in slices if part.memory] == [40, 20, 10]


def test_no_driver_is_said_plainly() -> None:
    found = look(FakeNvml([], init_error=DRIVER_NOT_LOADED))
    assert found.gpus == found.usable == ()
    assert found.driver is None
    assert found.notes == (
        "No NVIDIA driver answers here (Driver Not Loaded); jobs run on the CPU.",
    )


def test_a_driver_without_gpus_is_said_plainly() -> None:
    found = look(FakeNvml([]))
    assert "counts no GPU" in found.notes[0]


def test_the_real_machine_can_be_looked_at() -> None:
    found = detect(environ={})
    assert found.cpus.usable >= 1
    assert 0 < found.memory.available <= found.memory.total
    assert found.gpus or found.notes


def test_a_planned_machine_has_the_gpus_it_is_given() -> None:
    here = Hardware((), (), Cpus(None, 2, 2, 2, None), HostMemory(8 * GIB, 8 * GIB, None))
    planned = with_gpus(here, 4, 24 * GIB)
    assert planned.gpu_memory == 24 * GIB
    assert len(planned.usable) == 4
    assert planned.bf16


@pytest.mark.parametrize("machine", ["eight_h100s", "no_driver"])
def test_a_program_finds_the_double_on_its_path(machine: str) -> None:
    code = (
        "from runners.hardware.probe import detect; found = detect(environ={}); "
        "print(len(found.usable), len(found.notes))"
    )
    double = Path(__file__).parent / "pynvml_on_path"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(double), "MFT_FAKE_NVML": machine},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == (["8", "0"] if machine == "eight_h100s" else ["0", "1"])

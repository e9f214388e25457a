"""CUDA_VISIBLE_DEVICES, rule by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.hardware.gpus import Gpu, MigSlice
from runners.hardware.visible import visible_devices

FOUR = tuple(Gpu(i, f"GPU-{c}bcd-{i}", "NVIDIA A100", None) for i, c in enumerate("aabc"))
SLICES = (MigSlice(0, "MIG-11", "3g", None), MigSlice(1, "MIG-12", "2g", None))
CUT = (Gpu(0, "GPU-cut", "NVIDIA A100", mig_enabled=True, mig=SLICES),)


def chosen(setting: str | None, gpus: tuple[Gpu, ...] = FOUR) -> list[int]:
    return [device.gpu_index for device in visible_devices(gpus, setting)[0]]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("2,0", [2, 0]),
        (" 1 , 3 ", [1, 3]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", [0]),
        ("0,9,1", [0]),
        ("0,0", []),
        ("GPU-bbcd", [2]),
        ("GPU-bbcd,0", [2, 0]),
        ("GPU-abcd", []),
        ("GPU-abcd-1", [1]),
        ("٣", []),
    ],
)
def test_indices_and_uuids_choose_as_cuda_does(setting: str | None, expected: list[int]) -> None:
    assert chosen(setting) == expected


def test_an_ambiguous_beginning_says_so() -> None:
    _, notes = visible_devices(FOUR, "GPU-abcd")
    assert "several begin so" in notes[0]


def test_what_is_hidden_by_a_bad_entry_is_named() -> None:
    _, notes = visible_devices(FOUR, "0,9,1")
    assert "hides 9, 1" in notes[0]


def test_a_lost_gpu_cannot_be_chosen() -> None:
    gpus = (FOUR[0], Gpu(1, "", "unknown", lost=True))
    assert chosen("1,0", gpus) == []
    assert chosen(None, gpus) == [0]


def test_one_mig_slice_is_used_and_the_first_by_default() -> None:
    devices, notes = visible_devices(CUT, None)
    assert [device.uuid for device in devices] == ["MIG-11"]
    assert "2 MIG slices" in notes[0]


def test_a_mig_slice_is_chosen_by_its_name_or_its_gpu() -> None:
    assert [d.uuid for d in visible_devices(CUT, "MIG-12")[0]] == ["MIG-12"]
    assert [d.uuid for d in visible_devices(CUT, "0")[0]] == ["MIG-11"]
    assert visible_devices(CUT, "MIG-1")[0] == ()


def test_two_slices_at_once_leave_the_first() -> None:
    devices, notes = visible_devices(CUT, "MIG-12,MIG-11")
    assert [device.uuid for device in devices] == ["MIG-12"]
    assert "one MIG slice" in notes[0]


def test_a_gpu_with_mig_on_and_no_slices_is_no_device() -> None:
    empty = (Gpu(0, "GPU-e", "NVIDIA A100", mig_enabled=True),)
    assert chosen(None, empty) == []
    assert chosen("0", empty) == []


def test_unlike_gpus_come_with_a_word_on_their_order() -> None:
    mixed = (FOUR[0], Gpu(1, "GPU-x", "NVIDIA T4"))
    assert "CUDA_DEVICE_ORDER" in visible_devices(mixed, None)[1][0]
    assert visible_devices(mixed, None, device_order="PCI_BUS_ID")[1] == ()


@given(st.text(alphabet="0123,- GPUMIabcd", max_size=30))
def test_no_setting_breaks_it_and_none_yields_a_device_twice(setting: str) -> None:
    devices, notes = visible_devices(FOUR + CUT, setting)
    uuids = [device.uuid for device in devices]
    assert len(uuids) == len(set(uuids))
    assert all(note.endswith((".", ":")) for note in notes)

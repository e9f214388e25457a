"""What a run's peak is put beside: its own tensors, in the pieces that it really trained."""

from runners.hardware.estimate import estimate
from runners.train.memory import expected_memory
from runners.train.order import Spread
from tests.runners.hardware.shapes import QWEN25_7B
from tests.runners.hardware.test_estimate import config, gpus


def test_only_tensors_are_expected_because_torch_counts_nothing_else() -> None:
    ours, hardware = config(per_device_train_batch_size=4), gpus(1, 80)
    parts = estimate(ours, QWEN25_7B, hardware).rank.parts
    assert parts.overhead > 0
    assert expected_memory(ours, QWEN25_7B, hardware=hardware) == parts.total - parts.overhead


def test_a_micro_batch_that_was_cut_is_expected_to_take_what_a_small_one_takes() -> None:
    hardware = gpus(1, 80)
    wide = config(per_device_train_batch_size=8, gradient_accumulation_steps=1)
    narrow = config(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    cut = expected_memory(wide, QWEN25_7B, Spread(1, 2, 4), hardware)
    assert cut == expected_memory(narrow, QWEN25_7B, hardware=hardware)
    whole = expected_memory(wide, QWEN25_7B, hardware=hardware)
    assert cut is not None
    assert whole is not None
    assert cut < whole

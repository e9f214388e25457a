"""The moving numbers of a live view."""

from runners.hardware.sampler import GpuSampler
from tests.runners.hardware.fake_nvml import (
    DRIVER_NOT_LOADED,
    GIB,
    FakeNvml,
    eight_h100s,
    h100,
    vanishing,
)


def test_a_sample_asks_four_questions_a_gpu_and_no_more() -> None:
    nvml = FakeNvml(eight_h100s())
    with GpuSampler(nvml) as sampler:
        before = nvml.asked
        samples = sampler.sample()
        # Memory is two answers of the double and one call of NVML.
        assert nvml.asked - before == 8 * 5
    assert (samples[1].utilisation, samples[1].temperature, samples[1].power) == (97, 66, 643.2)
    assert nvml.open == 0


def test_a_gpu_that_disappears_is_lost_and_the_others_go_on() -> None:
    nvml = FakeNvml([h100(0), h100(1, used=vanishing(after=1))])
    with GpuSampler(nvml) as sampler:
        first, second = sampler.sample(), sampler.sample()
    assert not first[1].lost
    assert second[1].lost
    assert second[0].memory is not None
    assert second[0].memory.used == 1 * GIB


def test_without_a_driver_there_is_nothing_to_sample() -> None:
    with GpuSampler(FakeNvml([], init_error=DRIVER_NOT_LOADED)) as sampler:
        assert sampler.sample() == ()
    with GpuSampler(None) as sampler:
        assert sampler.sample() == ()

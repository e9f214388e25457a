"""Container limits, read from trees as the kernel lays them out."""

from pathlib import Path

import pytest

from runners.hardware.host import detect_cpus, detect_memory

GIB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def cpus(root: Path, *, logical: int = 64, affinity: int = 64) -> tuple[int, float | None]:
    found = detect_cpus(root, logical=logical, affinity=lambda: affinity)
    return found.usable, found.quota


def memory(root: Path) -> tuple[int | None, int, int]:
    found = detect_memory(root, machine=lambda: (512 * GIB, 500 * GIB))
    return found.limit, found.usable, found.available


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert cpus(tmp_path) == (64, None)
    assert memory(tmp_path) == (None, 512 * GIB, 500 * GIB)


def test_v2_limits_of_a_container(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/cpu.max": "350000 100000",
            "sys/fs/cgroup/memory.max": str(16 * GIB),
            "sys/fs/cgroup/memory.current": str(6 * GIB),
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {2 * GIB}",
        },
    )
    assert cpus(tmp_path) == (3, 3.5)
    assert memory(tmp_path) == (16 * GIB, 16 * GIB, 12 * GIB)


def test_v2_no_limit_is_spelled_max(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice",
            "sys/fs/cgroup/user.slice/cpu.max": "max 100000",
            "sys/fs/cgroup/user.slice/memory.max": "max",
        },
    )
    assert cpus(tmp_path) == (64, None)
    assert memory(tmp_path)[0] is None


def test_the_tightest_of_all_groups_above_counts(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/job",
            "sys/fs/cgroup/pod/cpu.max": "200000 100000",
            "sys/fs/cgroup/pod/job/cpu.max": "800000 100000",
            "sys/fs/cgroup/pod/memory.max": str(32 * GIB),
            "sys/fs/cgroup/pod/job/memory.max": str(64 * GIB),
        },
    )
    assert cpus(tmp_path) == (2, 2.0)
    assert memory(tmp_path)[0] == 32 * GIB


def test_v1_limits_with_the_hosts_path_inside_a_container(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(8 * GIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(3 * GIB),
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB}",
        },
    )
    assert cpus(tmp_path) == (4, 4.0)
    assert memory(tmp_path) == (8 * GIB, 8 * GIB, 6 * GIB)


def test_v1_no_limit_is_minus_one_or_a_huge_number(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "7:memory:/\n4:cpu:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert cpus(tmp_path) == (64, None)
    assert memory(tmp_path)[0] is None


def test_affinity_counts_too_and_a_core_is_always_left(tmp_path: Path) -> None:
    assert cpus(tmp_path, affinity=6)[0] == 6
    tree(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "10000 100000"})
    assert cpus(tmp_path)[0] == 1


@pytest.mark.parametrize("garbage", ["", "max", "many 100000", "100000 0", "100000"])
def test_a_group_file_that_makes_no_sense_is_no_limit_and_no_error(
    tmp_path: Path, garbage: str
) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../..\nnonsense",
            "sys/fs/cgroup/cpu.max": garbage,
            "sys/fs/cgroup/memory.max": garbage,
        },
    )
    assert cpus(tmp_path)[0] in {1, 64}
    assert memory(tmp_path)[1] in {512 * GIB, 100000}

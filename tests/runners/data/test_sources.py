"""Files to lines: compressed or not, whole or in ranges, sound or damaged."""

import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from runners.data.sources import ByteRange, DataFile, byte_ranges, find_tasks, read_blocks
from runners.errors import JobFailedError, MissingInputError, UsageError


def all_lines(part, block=64):
    blocks = list(read_blocks(part, block))
    assert all(b.endswith(b"\n") for b in blocks[:-1])
    return [line for b in blocks for line in b.splitlines(keepends=True)]


@given(
    st.lists(
        st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=30
    ),
    st.integers(1, 50),
    st.integers(1, 40),
    st.booleans(),
)
def test_ranges_of_a_file_hold_each_line_once_and_in_order(
    tmp_path_factory, lines, size, block, ends
):
    path = tmp_path_factory.mktemp("ranges") / "x.jsonl"
    content = b"\n".join([b"{}", *lines]) + (b"\n" if ends else b"")
    path.write_bytes(content)
    file = DataFile(path, len(content), "plain")
    seen = [line for part in byte_ranges(file, size) for line in all_lines(part, block)]
    assert b"".join(seen) == content
    assert all(line.endswith(b"\n") for line in seen[:-1])


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_plain_and_compressed_files_give_the_same_lines(tmp_path, suffix):
    content = b"".join(b'{"n": %d}\n' % i for i in range(5000))
    packed = {
        ".jsonl": content,
        ".jsonl.gz": gzip.compress(content[:1000]) + gzip.compress(content[1000:]),
        ".jsonl.zst": zstandard.compress(content[:1000]) + zstandard.compress(content[1000:]),
    }
    (tmp_path / f"a{suffix}").write_bytes(packed[suffix])
    (task,) = find_tasks([tmp_path])
    assert b"".join(all_lines(ByteRange(task.files[0]), 4096)) == content


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("harm", ["cut short", "overwritten"])
def test_a_damaged_compressed_file_is_named_and_not_taken_for_a_shorter_one(tmp_path, suffix, harm):
    content = bytes(i * 7919 % 251 for i in range(100_000))
    packed = gzip.compress(content) if suffix.endswith("gz") else zstandard.compress(content)
    damaged = packed[:-20] if harm == "cut short" else packed[:-20] + b"\xff" * 20
    (tmp_path / f"a{suffix}").write_bytes(damaged)
    (task,) = find_tasks([tmp_path])
    with pytest.raises(JobFailedError, match="damaged"):
        all_lines(ByteRange(task.files[0]), 4096)


def test_a_byte_order_mark_is_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf{}\n{}\n")
    (task,) = find_tasks([tmp_path])
    assert all_lines(ByteRange(task.files[0])) == [b"{}\n", b"{}\n"]


def test_a_folder_of_task_folders_stands_for_them(write_task, tmp_path):
    write_task("b", [{}])
    write_task("a", [{}])
    (tmp_path / "data" / "empty").mkdir()
    assert [t.name for t in find_tasks([tmp_path / "data"])] == ["a", "b"]


def test_two_folders_of_one_name_are_told_apart_by_their_parents(tmp_path):
    for parent in ("x", "y"):
        (tmp_path / parent / "task").mkdir(parents=True)
        (tmp_path / parent / "task" / "a.jsonl").write_text("{}\n")
    tasks = find_tasks([tmp_path / "x" / "task", tmp_path / "y" / "task"])
    assert [t.name for t in tasks] == ["x/task", "y/task"]


def test_names_grow_by_parents_until_they_differ(tmp_path):
    places = ["a/x/t", "b/x/t", "c/u"]
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.jsonl").write_text("{}\n")
    tasks = find_tasks([tmp_path / place for place in places])
    assert [t.name for t in tasks] == ["a/x/t", "b/x/t", "u"]


def test_a_folder_given_twice_is_refused(write_task):
    folder = write_task("t", [{}])
    with pytest.raises(UsageError, match="given twice"):
        find_tasks([folder.parent, folder])


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_what_is_no_task_folder_is_missing_input(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("{}")
    elif kind == "empty":
        path.mkdir()
    with pytest.raises(MissingInputError) as caught:
        find_tasks([path])
    assert caught.value.where == str(path)
    assert caught.value.fix

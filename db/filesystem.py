"""Which kind of file system a path is on, because SQLite's WAL is not safe on all of them.

A WAL needs memory that every process shares; over a network there is none, and the file is damaged
without a word (https://sqlite.org/wal.html, https://sqlite.org/faq.html#q5).
"""

from pathlib import Path

MOUNTS = Path("/proc/mounts")

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {"pvfs2", "orangefs", "panfs", "glusterfs", "9p", "coda", "ocfs2", "gfs2", "wekafs", "davfs"}
)
_NETWORK_FUSE = frozenset(
    {"sshfs", "glusterfs", "s3fs", "gcsfuse", "rclone", "ceph", "ceph-fuse", "davfs", "goofys"}
    | {"mountpoint-s3", "juicefs", "blobfuse", "blobfuse2", "quobyte", "mfs", "hdfs", "seaweedfs"}
)


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str:
    """Type of the file system that holds ``path``, such as ``ext4``; empty where nobody can say.

    ``mounts`` is a table in the format of ``/proc/mounts``. The last of the longest matching mount
    points counts, as a later mount hides an earlier one.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    resolved = path.resolve()
    found, depth = "", -1
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescaped(fields[1]))
        if resolved.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[2], len(point.parts)
    return found


def is_network(kind: str) -> bool:
    """Whether a file system of that type lives on another machine."""
    family, _, driver = kind.partition(".")
    return driver in _NETWORK_FUSE if family == "fuse" and driver else kind in _NETWORK


def _unescaped(text: str) -> str:
    r"""/proc/mounts writes white space and backslashes as octal: ``\040``."""
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(octal, character)
    return text

"""The export job: check, pack, check what was packed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from runners.config import ExportConfig
from runners.errors import JobFailedError, RefusedError
from runners.lifecycle.job import Job
from runners.submission.checks import Check, SubmissionFolder, check_folder, check_zip
from runners.submission.packing import pack


def work(job: Job[ExportConfig]) -> Mapping[str, object]:
    """Make the zip. Raises ``RefusedError`` with a line for each rule that does not hold."""
    config = job.config
    checks = check_folder(config.generations, config.benchmarks)
    for check in checks:
        if not check.ok:
            job.events.notice("error", f"{check.name}: {check.detail}")
    refuse(checks, str(config.generations))
    folder = SubmissionFolder(config.generations)
    target = config.output or job.output_folder(None) / f"generations_{folder.model_name}.zip"
    try:
        pack(folder, target)
    except OSError as error:
        raise JobFailedError(
            f"the zip cannot be written ({error.strerror})",
            where=str(target),
            fix="Choose another place with --output, or make room on the disk.",
        ) from error
    refuse(check_zip(target, config.benchmarks), str(target))
    job.record_artifact("submission", target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "ok": True,
        "zip": str(target),
        "sha256": digest,
        "checks": [asdict(check) for check in checks],
    }


def refuse(checks: Sequence[Check], where: str) -> None:
    """Raise ``RefusedError`` if a rule does not hold, naming every one that does not."""
    failed = [check for check in checks if not check.ok]
    if failed:
        raise RefusedError(
            "this set cannot be submitted",
            where=where,
            fix="\n  ".join(f"{check.name}: {check.detail}" for check in failed),
        )

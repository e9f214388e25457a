"""``python -m runners.lifecycle.supervise RUN_FOLDER``: leave the terminal, then supervise.

Three processes come of it. The first tells the supervisor's pid on stdout and ends, so that whoever
launched has no child to collect. The guard stays, small and asleep: as the nearest living ancestor
it inherits the job's processes if the supervisor dies, ends them, and brings the database up to
what they wrote. The supervisor does the work. Each is in a session of its own, so no terminal's
hang-up and no Ctrl-C reaches them.
"""

import os
import signal
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Start guard and supervisor for the run folder in ``argv``; return the exit status."""
    if len(argv) != 1:
        print("usage: python -m runners.lifecycle.supervise RUN_FOLDER", file=sys.stderr)
        return 2
    folder = Path(argv[0]).absolute()
    log = os.open(folder / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.chdir("/")  # a working folder keeps its file system from being unmounted
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        told = os.read(reading, 64)
        sys.stdout.buffer.write(told)
        sys.stdout.flush()
        return 0 if told else 1
    os.close(reading)
    os._exit(_guard(folder, writing, log))


def _guard(folder: Path, writing: int, log: int) -> int:
    os.setsid()
    # Handlers, not SIG_IGN: what is ignored would be so in the supervisor and the job too.
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    _redirect(log)
    from runners.lifecycle import kernel

    kernel.adopt_orphans()
    supervisor = os.fork()
    if supervisor == 0:
        os.close(writing)
        os._exit(_supervise(folder))
    os.write(writing, f"{supervisor}\n".encode())
    os.close(writing)
    _, status = os.waitpid(supervisor, 0)
    code = os.waitstatus_to_exitcode(status)
    return 0 if code == 0 else _clean_up(folder)


def _redirect(log: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    if log > 2:
        os.close(log)


def _supervise(folder: Path) -> int:
    import traceback

    os.setsid()
    try:
        from runners.lifecycle.folders import RunFolder
        from runners.lifecycle.supervisor import supervise

        return int(supervise(RunFolder(folder)))
    except BaseException:  # noqa: BLE001 - the log is all there is; the guard does the rest
        traceback.print_exc()
        return 1


def _clean_up(folder: Path) -> int:
    import traceback

    try:
        from runners.lifecycle.folders import RunFolder
        from runners.lifecycle.liveness import bury

        bury(RunFolder(folder))
    except BaseException:  # noqa: BLE001 - as above; whoever sees the run next tries again
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

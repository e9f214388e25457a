"""Turns a config's words into a sandbox provider, or says what this machine lacks for it."""

import shutil
from collections.abc import Callable

from runners.config.evaluate import EvaluateConfig
from runners.errors import MissingInputError
from runners.evaluate.sandbox.base import Limits, Program, Sandbox, SandboxError
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from runners.evaluate.sandbox.direct import DirectSandbox
from runners.evaluate.sandbox.docker import DockerSandbox, engine_or_error, sweep_containers
from runners.evaluate.sandbox.halt import Halt

INSTALL_BWRAP = "apt-get install -y bubblewrap"
_ENABLE = (
    "sysctl kernel.unprivileged_userns_clone=1 (Debian), or "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04), or use --sandbox docker"
)


def make_sandbox(config: EvaluateConfig, halt: Halt | None = None) -> Callable[[], Sandbox]:
    """A maker of the sandbox that the config asks for, tried once.

    Raises ``MissingInputError`` when this machine cannot make it, with the line that helps.
    """
    if config.sandbox == "bwrap" and shutil.which("bwrap") is None:
        raise MissingInputError(
            "bubblewrap, the sandbox, is not installed",
            fix=f"{INSTALL_BWRAP} (or --sandbox docker)",
        )

    if config.sandbox == "docker":
        engine_or_error()
        sweep_containers()

    def make() -> Sandbox:
        if config.sandbox == "docker":
            return DockerSandbox(config.docker_image, halt=halt)
        if config.sandbox == "none":
            return DirectSandbox(consented=config.i_understand, halt=halt)
        return BwrapSandbox(halt=halt)

    _try(make)
    return make


def _try(make: Callable[[], Sandbox]) -> None:
    sandbox = make()
    try:
        outcome = sandbox.run(Program(argv=["/bin/sh", "-c", "exit 7"]), Limits(10.0, 60.0))
    except SandboxError as error:
        raise MissingInputError(error.what, where=error.where, fix=_ENABLE) from error
    finally:
        sandbox.close()
    if outcome.exit_code != 7:
        raise MissingInputError(
            f"the {sandbox.name} sandbox does not run programs here ({outcome.stderr!r})",
            fix=_ENABLE,
        )

"""The toolchains of the container image: where its Dockerfile puts them, asked in the image.

Nothing of this machine is shown to a container, so its own compilers do not matter here: what is
recorded with the scores is the image's versions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runners.evaluate.languages.base import Missing, Toolchain
from runners.evaluate.sandbox.base import Limits, Program, Sandbox

_LIMITS = Limits(30.0, 120.0)


@dataclass(frozen=True)
class _Kit:
    """A language in the image: programs, environment, the command that tells its version."""

    programs: Mapping[str, str]
    version: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


_KITS = {
    "python": _Kit(
        {"python": "/usr/bin/python3"},
        (
            "/usr/bin/python3",
            "-c",
            "import sys, numpy; print('Python', sys.version.split()[0] + "
            "', numpy', numpy.__version__)",
        ),
        {
            "PYTHONPATH": "/usr/lib/python3/dist-packages",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
    ),
    "java": _Kit(
        {"compiler": "/usr/bin/javac", "java": "/usr/bin/java"}, ("/usr/bin/javac", "-version")
    ),
    "js": _Kit(
        {"node": "/usr/bin/node"},
        ("/usr/bin/node", "-p", "require('js-md5') && `node ${process.version}`"),
        {"NODE_PATH": "/opt/npm/node_modules"},
    ),
    "cpp": _Kit({"compiler": "/usr/bin/g++"}, ("/usr/bin/g++", "--version")),
    "go": _Kit(
        {"go": "/usr/bin/go"},
        ("/usr/bin/go", "version"),
        {
            "GO111MODULE": "off",
            "GOPATH": "/usr/share/gocode",
            "GOFLAGS": "",
            "GOTOOLCHAIN": "local",
            "GOCACHE": "/opt/gocache",
            "CGO_ENABLED": "1",
        },
    ),
    "rust": _Kit(
        {"bin": "/usr/bin", "rustc": "/usr/bin/rustc"},
        ("/usr/bin/rustc", "--version"),
        {
            "CARGO_HOME": "/work/.cargo",
            "CARGO_TERM_COLOR": "never",
            "RUST_BACKTRACE": "0",
        },
    ),
}


def discover_in_image(
    sandbox: Sandbox, languages: Iterable[str], build: str
) -> list[Toolchain | Missing]:
    """Ask the image for the toolchain of each language; ``build`` is the line that makes it.

    Raises ``SandboxError`` when no container can be started.
    """
    return [_ask(sandbox, language, build) for language in languages]


def _ask(sandbox: Sandbox, language: str, build: str) -> Toolchain | Missing:
    kit = _KITS[language]
    outcome = sandbox.run(Program(argv=kit.version, environment=kit.environment), _LIMITS)
    said = (outcome.stdout or outcome.stderr).decode("utf-8", "replace").strip()
    if not outcome.ok:
        return Missing(language, f"the image has no {language} that runs ({said[:200]})", build)
    return Toolchain(language, said.partition("\n")[0], kit.programs, (), kit.environment)

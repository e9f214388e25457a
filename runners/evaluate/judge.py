"""One worker: judges generations of one language, the fast way where it is sure, else plainly."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runners.evaluate.items import Item
from runners.evaluate.languages import get_language
from runners.evaluate.languages.base import Bench, FastWay, Judgement, Source, Toolchain
from runners.evaluate.sandbox.base import Limits, Sandbox, SandboxError

Report = Callable[[Item, Judgement], None]


class Judge:
    """Keeps one sandbox, and one language's warm servers at a time."""

    def __init__(
        self,
        sandbox: Sandbox,
        toolchains: dict[str, Toolchain],
        parts: dict[str, Path],
        limits: Limits,
        *,
        fast: bool,
        strict: bool = False,
        slack: float = 1.0,
    ) -> None:
        self._sandbox = sandbox
        self._toolchains = toolchains
        self._parts = parts
        self._limits = limits
        self._fast = fast
        self._strict = strict
        self._slack = slack
        self._warm: tuple[str, FastWay | None] | None = None

    def judge(self, items: Sequence[Item], language: str, family: str, report: Report) -> None:
        """Judge ``items`` and report each as soon as it is known."""
        sources = [self._source(item, language, family) for item in items]
        answers = self._fast_answers(sources, language)
        for item, source, answer in zip(items, sources, answers, strict=True):
            report(item, answer or self._plainly(source, language))

    def judge_alone(self, item: Item, language: str, family: str) -> Judgement:
        """Judge one item the plain way, for a time-out that has to be certain."""
        return self._plainly(self._source(item, language, family), language)

    def close(self) -> None:
        """End the servers and give the sandbox back."""
        self._cool()
        self._sandbox.close()

    def _source(self, item: Item, language: str, family: str) -> Source:
        row = item.question.row
        return Source(get_language(language).assemble(row, item.text, family), row, family)

    def _fast_answers(self, sources: Sequence[Source], language: str) -> list[Judgement | None]:
        try:
            way = self._way(language)
            return [None] * len(sources) if way is None else way.judge(sources)
        except SandboxError:
            # A fault of the sandbox ends no run: the plain way tries again, and says if it lasts.
            self._cool()
            return [None] * len(sources)

    def _way(self, language: str) -> FastWay | None:
        if not self._fast:
            return None
        if self._warm is None or self._warm[0] != language:
            self._cool()
            self._warm = (language, get_language(language).fast(self._bench(language)))
        return self._warm[1]

    def _cool(self) -> None:
        if self._warm is not None and self._warm[1] is not None:
            self._warm[1].close()
        self._warm = None

    def _bench(self, language: str) -> Bench:
        toolchain = self._toolchains[language]
        return Bench(
            self._sandbox,
            toolchain,
            self._limits,
            self._parts[language],
            strict=self._strict,
            slack=self._slack,
        )

    def _plainly(self, source: Source, language: str) -> Judgement:
        bench = self._bench(language)
        try:
            return get_language(language).judge(source, bench)
        except SandboxError:
            # A fault of the sandbox is never a fault of the program: once more, then say so.
            try:
                return get_language(language).judge(source, replace(bench))
            except SandboxError as error:
                return Judgement("sandbox_error", str(error), 0.0, 0)

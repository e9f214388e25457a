"""HumanEvalPack (OctoPack, arXiv 2308.07124): 164 functions to write and to repair, six languages.

Prompts, stop words and cuts are those that the competition scored with; oddities in them are part
of the score and stay.
"""

from collections.abc import Mapping, Sequence

from runners.benchmarks.family import HubFile, Parts, Row, StopRule, Task

LANGUAGES = ("python", "java", "js", "cpp", "go", "rust")
SYNTHESIZE = "humanevalsynthesize"
FIXTESTS = "humanevalfixtests"

HUB_DATASET = "bigcode/humanevalpack"
HUB_REVISION = "9a41762f73a8cb23bb5811b73d5aab164efcf378"
"""The data set's commit. Its rows are pinned by content besides: others than the competition's are
refused, whatever revision or mirror they came from."""

_RUST_MAIN = "fn main(){}\n"
_END_OF_TEXT = "<|endoftext|>"
_STOP_WORDS: Mapping[str, tuple[str, ...]] = {
    "python": ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\nassert"),
    "go": ("\n//", "\nfunc main(", "struct", "\nfunc"),
}
_JAVA_MAIN = "public static void main"
_FIELDS = (
    "task_id",
    "prompt",
    "declaration",
    "canonical_solution",
    "buggy_solution",
    "test",
    "entry_point",
    "instruction",
)


class HumanEvalPack:
    """Both ways of asking: write the function (synthesize), repair it from its tests (fixtests)."""

    name: str = "humanevalpack"
    tasks: tuple[Task, ...] = tuple(
        Task(f"{family}-{language}", family, language)
        for family in (SYNTHESIZE, FIXTESTS)
        for language in LANGUAGES
    )
    scored: bool = True

    def rows_files(self, task: Task) -> tuple[str, ...]:
        """One file a language, shared by both families; or a folder a language, as on the hub."""
        language = task.language
        return (
            f"humanevalpack/{language}.jsonl",
            f"humanevalpack/data/{language}/data/humanevalpack.jsonl",
        )

    def origin(self, task: Task) -> HubFile:
        """The authors' data set."""
        return HubFile(HUB_DATASET, f"data/{task.language}/data/humanevalpack.jsonl", HUB_REVISION)

    def questions(self, task: Task, count: int) -> range:
        """Every row."""
        return range(count)

    def official_count(self, task: Task) -> int:
        """164 in each language."""
        return 164

    def fields(self, task: Task) -> Mapping[str, type]:
        """All text; Go has the head of its test file besides."""
        more = ("test_setup", "import") if task.language == "go" else ()
        return dict.fromkeys((*_FIELDS, *more), str)

    def task_id(self, row: Row) -> str:
        """``Python/0``, say."""
        return str(row["task_id"])

    def parts(self, task: Task, row: Row) -> Parts:
        """Instruction and declaration; for fixtests, the broken function and its tests first."""
        base = _base(task, row)
        if task.family == SYNTHESIZE:
            ask = row["instruction"].strip()
            text = f"{ask}\n\n{base}"
        else:
            broken = f"{base}{row['buggy_solution']}\n{row['test']}"
            ask = f"{broken}\nFix bugs in {row['entry_point']}."
            text = f"{ask}\n\n{base}"
        return Parts(text=text.strip(), ask=ask.strip(), code=base.strip())

    def chat_by_reference(self, task: Task) -> bool:
        """The reference lets the model continue bare text."""
        return False

    def stop_rule(self, task: Task, eos: Sequence[str]) -> StopRule:
        """Python stops where indentation ends, the others where the braces close."""
        words = (*_STOP_WORDS.get(task.language, ()), *dict.fromkeys((_END_OF_TEXT, *eos)))
        if task.language == "python":
            return StopRule(words, line_start=True)
        return StopRule(words, open_braces=_open_braces(task))

    def cuts_after_stop(self, task: Task) -> bool:
        """Cutting later gives the same text."""
        return False

    def stored(self, task: Task, row: Row, rest: str, rule: StopRule) -> str:
        """The function alone: what follows it is cut off."""
        cut = _first_stop_word(rest.rstrip(), rule.words)
        cut = _indented(cut) if task.language == "python" else _balanced(cut, task)
        head = row["prompt"] if task.family == SYNTHESIZE else _base(task, row)
        return str(head).rstrip() + cut

    def ideal(self, task: Task, row: Row) -> str:
        """The canonical body, without the line breaks that the prompt already ends in."""
        return str(row["canonical_solution"]).strip("\n") + "\n"


def _base(task: Task, row: Row) -> str:
    if task.family == SYNTHESIZE:
        return str(row["prompt"])
    return (_RUST_MAIN if task.language == "rust" else "") + str(row["declaration"])


def _open_braces(task: Task) -> int:
    """How many braces the prompt leaves open: Java's method stands in a class."""
    return 2 if task.language == "java" else 1


def _first_stop_word(text: str, words: Sequence[str]) -> str:
    for word in words:
        text = text.partition(word)[0]
    return text


def _indented(text: str) -> str:
    """The text up to the first non-empty line that starts with neither space nor tab."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line and line[0] not in " \t":
            return "\n".join(lines[:number])
    return text


def _balanced(text: str, task: Task) -> str:
    """The text up to the brace that closes the function (in Java, its class)."""
    depth = _open_braces(task)
    for position, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[: position + 1]
    if task.language == "java":
        return _closed_java(text)
    return _to_last_brace(text)


def _closed_java(text: str) -> str:
    if _JAVA_MAIN in text:
        text = text.partition(_JAVA_MAIN)[0] + "}"
    text = _to_last_brace(text)
    if text.count("{") - 1 == text.count("}"):
        text += "\n}"
    return text


def _to_last_brace(text: str) -> str:
    return text[: text.rindex("}") + 1] if "}" in text else text


HUMANEVALPACK = HumanEvalPack()

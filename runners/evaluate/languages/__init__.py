"""The six languages, one file each."""

from runners.evaluate.languages.base import Language


def get_language(name: str) -> Language:
    """The language ``name``: python, java, js, cpp, go or rust."""
    from runners.evaluate.languages.cpp import Cpp
    from runners.evaluate.languages.go import Go
    from runners.evaluate.languages.java import Java
    from runners.evaluate.languages.js import JavaScript
    from runners.evaluate.languages.python import Python
    from runners.evaluate.languages.rust import Rust

    kinds: dict[str, type[Language]] = {
        "python": Python,
        "java": Java,
        "js": JavaScript,
        "cpp": Cpp,
        "go": Go,
        "rust": Rust,
    }
    return kinds[name]()


LANGUAGES = ("python", "java", "js", "cpp", "go", "rust")
"""Their names, in the order of the tasks."""

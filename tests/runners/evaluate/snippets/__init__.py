"""What the kinds of ``mutations`` put into programs, said in each of the six languages."""

from tests.runners.evaluate.snippets.cpp import CPP
from tests.runners.evaluate.snippets.go import GO
from tests.runners.evaluate.snippets.java import JAVA
from tests.runners.evaluate.snippets.js import JS
from tests.runners.evaluate.snippets.python import PYTHON
from tests.runners.evaluate.snippets.rust import RUST

SNIPPETS = {"python": PYTHON, "java": JAVA, "js": JS, "cpp": CPP, "go": GO, "rust": RUST}

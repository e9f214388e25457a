# Everything runs from nothing but Python 3.11+ and make. `make demo` and `make test` are the two
# commands a newcomer needs; the rest is for those who work on the project.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/pytest

.PHONY: demo test test-full check bench toolchains terminals install clean

install: $(STAMP)

# The constraints file pins what the tests run on; pyproject.toml keeps ranges for users.
# torch comes first: with it in place, no other package asks for a build of its own choice.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mft-tui needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,dev]'
	touch $(STAMP)

# Compilers and the sandbox: installed where this may (root and apt), reported where it may not.
toolchains: $(STAMP)
	@$(BIN)/python -m runners.evaluate.install || true

# What the tests drive the app in, a terminal and a browser: installed where this may, reported
# where it may not, and then the tests that need it are skipped. No user of the program needs them.
terminals:
	@for tool in tmux chromium; do \
		command -v $$tool > /dev/null && continue; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
			echo "+ apt-get install $$tool" >&2; \
			apt-get update -q >&2; \
			DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -q --no-install-recommends $$tool >&2 || true; \
		fi; \
		command -v $$tool > /dev/null || { \
			echo "missing: $$tool, so the tests that drive the app in it are skipped" >&2; \
			echo "  install it with: apt-get install $$tool" >&2; \
		}; \
	done

demo: $(STAMP) toolchains
	$(BIN)/mft-tui demo

test: $(STAMP) toolchains terminals check
	$(PYTEST) -n 2 --dist loadgroup

test-full: $(STAMP) toolchains terminals check
	$(PYTEST) -n 2 --dist loadgroup --full

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) toolchains
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(PYTEST) tests/bench --bench -s -p no:xdist

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

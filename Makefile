# `make demo` shows it, `make test` proves it. Both make their own environment first.
PYTHON ?= python3
BIN := .venv/bin
RIVALS := benchmarks/.venv
OWN := benchmarks/.own
CHECK_PYTHON := import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 ...")
INSTALL = $(PYTHON) tools/environment.py
INSTALL_PROJECT := -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation
# What is measured starts as after pip, which leaves no compiling to the first start.
COMPILED := UV_COMPILE_BYTECODE=1
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: setup demo test check soak interleavings storm lint docs bench lock matrix mutants clean

setup: .venv/.installed

.venv/.installed: requirements.lock tools/environment.py pyproject.toml hatch_build.py ingest/hashing/md5_lanes.c
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(INSTALL) .venv requirements.lock
	$(BIN)/python $(INSTALL_PROJECT) -e .
	@touch $@

demo: setup
	$(BIN)/ingest demo

# A file's tests stay together, for what they share, and the longest files come first. They wait more than they compute:
# six at once keep two cores busy.
test: setup
	$(BIN)/python -m pytest -n 6 --dist loadfile --no-loadscope-reorder

# Lint, types, and what needs no server: for the time between two changes.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/static tests/unit tests/property

# What the suite draws from a fixed seed, drawn anew: SOAK seconds of the model test on each database, 400 kills, and
# a thousand examples of each property.
SOAK ?= 300
soak: setup
	INGEST_TEST_SOAK=$(SOAK) $(BIN)/python -m pytest -n 2 --dist loadfile \
		tests/faults/test_model.py tests/faults/test_crash_points.py tests/property

# Every command stopped at every place, beside every other one, on both databases: an hour or two. The suite takes some.
# INTERLEAVINGS='sqlite-deliver' tries those of one command on one database.
INTERLEAVINGS ?= test
interleavings: setup
	INGEST_TEST_INTERLEAVINGS=1 $(BIN)/python -m pytest -n 2 tests/faults/test_interleavings.py -k "$(INTERLEAVINGS)"

# All commands at once, with consumers and deliveries, killed and stopped: new storms, STORM seconds on each database.
STORM ?= 300
storm: setup
	INGEST_TEST_STORM=$(STORM) $(BIN)/python -m pytest -n 2 tests/faults/test_storm.py

# What can be said without running a server.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/static

docs: setup
	$(BIN)/python -m ingest.catalog.schema.snapshot > ingest/catalog/schema/schema.sql.new && mv ingest/catalog/schema/schema.sql.new ingest/catalog/schema/schema.sql
	$(BIN)/python -m ingest.cli.docs > docs/cli.md
	$(BIN)/python -m ingest.cli.error_docs docs/operations.md

# BENCH='--cases fresh-10k --rounds 3' runs one of them; BENCH=--list names them all.
bench: setup $(RIVALS)/.installed $(OWN)/.installed
	$(OWN)/bin/python $(INSTALL_PROJECT) --force-reinstall .
	$(BIN)/python -m benchmarks.peers $(BENCH)
	$(if $(BENCH),,$(BIN)/python -m benchmarks.events)

# An environment of their own: awscli and aioboto3 want different releases of botocore.
$(RIVALS)/.installed: benchmarks/requirements.lock
	$(COMPILED) $(INSTALL) $(RIVALS) benchmarks/requirements.lock
	@touch $@

# What a user installs, and nothing of what tests need.
$(OWN)/.installed: requirements-run.lock
	$(COMPILED) $(INSTALL) $(OWN) requirements-run.lock
	@touch $@

# Keeps what is pinned; delete a lock first to take the newest of everything.
lock: setup
	$(LOCK) --all-extras pyproject.toml -o requirements.lock
	$(LOCK) --extra kafka --extra build --constraint requirements.lock pyproject.toml -o requirements-run.lock
	$(LOCK) benchmarks/requirements.in -o benchmarks/requirements.lock

# Whether the tests of ingest/plan notice each small change in it; MUTANTS='gate policy' tries those modules. Of checks,
# decide_page, etags, pace, page_memory, selection and splits nobody has looked at each that lives.
MUTANTS ?= behind breaker clock concurrency cursors event_names gate identity offsets patience pieces policy resuming \
	retention rulings setback shards spellings storable tally vanishing verdicts why
mutants: setup
	$(BIN)/python -m tools.mutants $(MUTANTS)

# What needs no servers but the demo's own, on each Python that is here; PYTHONS='/opt/python3.15/bin/python3' names others.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
matrix:
	@for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || { echo "$$python is not here"; continue; }; \
		echo "== Python $$version"; \
		$$python tools/environment.py .matrix/$$version requirements.lock && \
		.matrix/$$version/bin/python $(INSTALL_PROJECT) -e . && \
		.matrix/$$version/bin/python -m pytest -q tests/static tests/unit tests/property && \
		.matrix/$$version/bin/ingest demo || exit 1; \
		tried="$$tried $$version"; \
	done; echo "Passed:$$tried"; test -n "$$tried"

clean:
	rm -rf .venv .matrix $(RIVALS) $(OWN) benchmarks/work

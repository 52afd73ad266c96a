# Two commands matter: `make serve` runs the broker, `make test` proves it. Both build what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One process per CPU; an idle one takes tests from a busy one. No test needs another one, or a port of its own.
PARALLEL := --numprocesses auto --dist worksteal
SOURCES := $(shell find core bench -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

.PHONY: serve test shards-test crash-test soak lint bench bench-guard conformance clean

serve: $(VENV)/.serve
	$(BIN)/rookery serve $(ARGS)

# The strangers' clients meet a broker of three shards first; then everything meets one of the default.
test: lint
	ROOKERY_TEST_SHARDS=3 $(BIN)/python -m pytest --quiet $(PARALLEL) tests/clients
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# Everything with brokers of three shards (SHARDS=N); those that tests start within their own process choose themselves.
shards-test: $(VENV)/.test
	ROOKERY_TEST_SHARDS=$(or $(SHARDS),3) $(BIN)/python -m pytest --quiet $(PARALLEL) $(ARGS)

# The long form of what `make test` does ten times: kill -9 under load, so many rounds.
crash-test: $(VENV)/.test
	ROOKERY_TEST_CRASHES=$(or $(ROUNDS),200) $(BIN)/python -m pytest --quiet tests/durability/test_kill.py

# Ten minutes of churn with a durable log: memory and disk stay as they are, and no message is lost.
soak: $(VENV)/.test
	$(BIN)/python -m rookery.bench.soak $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH=$(BIN):$$PATH $(BIN)/cython-lint core bench
	$(BIN)/lint-imports
	$(BIN)/mypy

# Tables, plots and all figures go to build/bench.
bench: $(VENV)/.test
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[bench]"
	$(BIN)/python -m rookery.bench --report build/bench $(ARGS)

# Fails when decode, match or deliver takes more instructions than in the commit before; wants valgrind.
bench-guard: $(VENV)/.test
	$(BIN)/python -m rookery.bench.guard $(ARGS)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip "setuptools>=80" "Cython>=3.1,<3.4"

$(VENV)/.serve: $(VENV)/bin/pip pyproject.toml setup.py $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --editable .
	touch $@

$(VENV)/.test: $(VENV)/bin/pip pyproject.toml setup.py $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[test]"
	touch $@ $(VENV)/.serve

conformance: $(VENV)/.test
	cd tests && ../$(BIN)/python -m conformance.report

clean:
	rm -rf build dist *.egg-info $(VENV)
	find core bench -name '*.so' -delete

# Palate: `make demo` runs the loop, `make test` tests it, `make check` reads the code. Each sets up .venv when needed.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test test-slow study perf check format clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$(shell sed -n 's/^torch==/torch==/p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/palate demo

test: setup
	$(BIN)/pytest -m "not slow"

test-slow: setup
	$(BIN)/pytest -m slow

# Does a 95% interval cover 95%? Simulated truth, 1,000 studies a row, into docs/coverage.md (5 minutes).
study: setup
	$(BIN)/python tests/study/intervals.py

# Ours beside the peers, in one run and in an environment of its own (.venv-perf), into docs/speed.md.
perf:
	$(PYTHON) -m venv .venv-perf
	.venv-perf/bin/python -m pip install --quiet --constraint constraints.txt "$(shell sed -n 's/^torch==/torch==/p' constraints.txt)"
	.venv-perf/bin/python -m pip install --quiet --editable ".[perf]"
	.venv-perf/bin/python tests/perf/votes.py --out docs/speed.md

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf demo runs

# Palate: `make demo` runs the loop, `make test` tests it, `make check` reads the code. Each sets up .venv when needed.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test test-slow test-e2e test-load label-studio study align-study perf check format clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$(shell sed -n 's/^torch==/torch==/p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/palate demo

test: setup
	$(BIN)/pytest -m "not slow" -n 2

test-slow: setup
	$(BIN)/pytest -m slow --ignore=tests/test_annotation_e2e.py --ignore=tests/test_annotation_load.py

# Label Studio wants older packages than ours, so it lives in an environment of its own.
label-studio: setup
	$(PYTHON) -m venv .venv-label-studio
	.venv-label-studio/bin/pip install --quiet "label-studio==1.23.*"
	ln -sf ../../.venv-label-studio/bin/label-studio $(BIN)/label-studio

test-e2e: label-studio
	command -v chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; }
	$(BIN)/pytest tests/test_annotation_e2e.py

test-load: label-studio
	PALATE_LOAD=1 $(BIN)/pytest tests/test_annotation_load.py -s

# Does a 95% interval cover 95%? Simulated truth, 1,000 studies a row, into docs/coverage.md (5 minutes).
study: setup
	$(BIN)/python tests/study/intervals.py

# Every online algorithm and more pretraining at equal evaluations, three seeds each (hours of one core).
align-study: setup
	$(BIN)/python tests/study/gradients.py
	$(BIN)/python tests/study/algorithms.py

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

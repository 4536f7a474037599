# Palate: `make demo` runs the loop, `make test` tests it, `make check` reads the code. Each sets up .venv when needed.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test test-slow test-e2e test-load label-studio study align-study guide-study reward-study hacking-study enhancer-study perf screenshots check format clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$(shell sed -n 's/^torch==/torch==/p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

# With ANNOTATE=label-studio people judge in a browser, and the loop waits for them; run it again to go on.
demo: setup $(if $(ANNOTATE),label-studio)
	$(BIN)/palate demo $(if $(ANNOTATE),--recipe palate/demo/$(ANNOTATE).toml --out demo-people)

test: setup
	$(BIN)/pytest -m "not slow" -n 2

test-slow: setup
	$(BIN)/pytest -m slow --ignore-glob='tests/*_e2e.py' --ignore=tests/test_annotation_load.py

# Label Studio wants older packages than ours, so it lives in an environment of its own.
label-studio: setup .venv-label-studio/installed
	ln -sf ../../.venv-label-studio/bin/label-studio $(BIN)/label-studio

.venv-label-studio/installed:
	$(PYTHON) -m venv .venv-label-studio
	.venv-label-studio/bin/pip install --quiet --disable-pip-version-check "label-studio==1.23.*"
	touch $@

# A real server and a real browser; where Debian's chromium is missing it is installed, which takes root.
test-e2e: label-studio
	command -v chromedriver >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; }
	$(BIN)/pytest tests/*_e2e.py

# Push and pull beside the bare import and export, at this many comparisons of three answers (10 minutes when idle).
test-load: label-studio
	PALATE_LOAD=$${PALATE_LOAD:-10000} $(BIN)/pytest tests/test_annotation_load.py -s

# Does a 95% interval cover 95%? Simulated truth, 1,000 studies a row, into docs/coverage.md (40 minutes of a core, most
# of them for the loss law; goes on after a stop). What does the active design save? Into docs/active.md. Does a caption
# that scores better make a better video? Into docs/captions.md.
study: setup
	$(BIN)/python tests/study/intervals.py
	$(BIN)/python tests/study/active.py
	$(BIN)/python tests/study/captions.py

# Every online algorithm and more pretraining at equal evaluations, three seeds each (an hour and a half of one core).
align-study: setup
	$(BIN)/python tests/study/gradients.py
	$(BIN)/python tests/study/algorithms.py

# From the shipped generator past 90% on the verifier, beside as much more pretraining, three seeds (six hours of a core).
guide-study: setup
	$(BIN)/python tests/study/guide.py

# What a reward of the shapes world learns, against its label ceiling, and whether it can lead the sampler (docs/rewards.md).
reward-study: setup
	$(BIN)/python tests/study/learned_reward.py

# A weak reward optimised too hard, and when an alarm on the strict verifier rings (an hour of one core).
hacking-study: setup
	$(BIN)/python tests/study/hacking.py

# The prompt enhancer from nothing: SFT, RL, and RL on half of the reward; then what each does to videos, into
# docs/enhancer.md (twenty minutes of one core).
enhancer-study: setup
	$(BIN)/palate align prompt --out runs/enhancer rl.steps=0
	$(BIN)/palate align prompt --base runs/enhancer/sft --out runs/enhancer-rl sft.steps=0
	$(BIN)/palate align prompt --base runs/enhancer/sft --out runs/enhancer-hacked sft.steps=0 rl.weights.factual=0.0 rl.weights.video=0.0
	$(BIN)/python tests/study/enhancer.py --models SFT=runs/enhancer/sft RL=runs/enhancer-rl/rl --runs runs/enhancer-rl runs/enhancer-hacked

# Ours beside the peers, in one run and in an environment of its own (.venv-perf), into docs/speed.md; and the
# dashboards in a browser, on a record of a million votes, into docs/dashboards.md.
perf: setup
	$(PYTHON) -m venv .venv-perf
	.venv-perf/bin/python -m pip install --quiet --constraint constraints.txt "$(shell sed -n 's/^torch==/torch==/p' constraints.txt)"
	.venv-perf/bin/python -m pip install --quiet --editable ".[perf]"
	.venv-perf/bin/python tests/perf/votes.py --out docs/speed.md
	.venv-perf/bin/python tests/perf/report.py --out docs/speed-report.md
	.venv-perf/bin/python tests/perf/reward_training.py --out docs/speed-rewards.md
	$(BIN)/python tests/perf/dashboards.py --out docs/dashboards.md

# The README's pictures of the dashboards, from the demo's record.
screenshots: setup
	$(BIN)/python tests/dashboard_browser.py demo/palate.db docs

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf demo demo-people runs

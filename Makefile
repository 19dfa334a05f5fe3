# The commands of the project. Everything runs in .venv, which `make setup` makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_OUT := runs/dreamzero-unseen-tasks

# Software rendering: one OpenMP thread per process (two fighting for a core are 10 to 20 times slower).
export OMP_NUM_THREADS ?= 1

.PHONY: setup run test test-fast docs check smoke bench parity build experts clean

setup: $(STAMP)

$(STAMP): pyproject.toml setup.sh
	./setup.sh $(PYTHON) $(VENV)
	touch $(STAMP)

# The main job: the shipped model on unseen verbs in unseen environments, then its table, plots and page (last line).
run: setup
	$(BIN)/wambench run --policy dreamzero --split unseen-tasks --out $(RUN_OUT)
	$(BIN)/wambench leaderboard $(RUN_OUT) --out $(RUN_OUT)/leaderboard.csv
	$(BIN)/wambench plot $(RUN_OUT) --out $(RUN_OUT)/plots
	$(BIN)/wambench report $(RUN_OUT) --out $(RUN_OUT)/site

# All tests. CI prints the slowest ones.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20

# The tests that take no more than a moment each: under a minute on two cores.
test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# The site, with the API reference from the docstrings; a broken link fails. The result is build/site/index.html.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One episode of every task with every shipped policy, with the real renderer.
smoke: setup
	$(BIN)/wambench doctor
	for policy in expert noop random dreamzero; do for split in seen unseen-tasks; do \
	  $(BIN)/wambench run --policy $$policy --split $$split --episodes 1 --out runs/smoke/$$policy-$$split || exit 1; \
	done; done
	$(BIN)/wambench leaderboard runs/smoke/*

bench: setup
	$(BIN)/wambench bench sim

# Every file of a folder of golden values against this implementation: the largest error and its tolerance.
GOLDEN ?= tests/golden/dreamzero
parity: setup
	$(BIN)/python -m tests.parity $(GOLDEN)

# How well the experts solve every task: the table in the README.
experts: setup
	$(BIN)/wambench experts --out results/experts.md

build: setup
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info runs

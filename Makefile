# Needs Python >= 3.11, make and network access. `make demo` and `make test` set up everything else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
COMPAT := .venv-compat
COMPAT_STAMP := $(COMPAT)/.set-up

.PHONY: setup demo test test-slow test-gpu compat chaos chaos-full check format bench lock clean

setup: $(STAMP)

# Uses uv if it is installed or can be installed, else pip. Bytecode is compiled here once: Ray's workers are many processes
# that each import torch, which takes several times as long where Python cannot cache bytecode.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv || \
	  echo "uv is not available; installing with pip, which takes longer"
	@UV=$$(command -v uv || echo $(BIN)/uv); \
	if "$$UV" --version >/dev/null 2>&1; then \
	  "$$UV" pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock && \
	  "$$UV" pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  $(BIN)/python -m pip install --quiet -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --no-deps --editable .; \
	fi
	touch $@

# A search on the bundled task over 25 to 60 % of dense, four to seven minutes on two cores: one dense training, and schedules
# that need no training, next to the published ones that need none. Its files are in ./.sparsesearch, which the program uses wherever it exists, so that the command it prints at the end works as printed.
demo: $(STAMP)
	mkdir -p .sparsesearch
	$(BIN)/sparsesearch run --backbone deit_pico --budget 25%:60% --strategy training-free --evaluations 80 --output demo

test: $(STAMP)
	sh tests/run.sh $(BIN)

# Also what repeats more often what `test` shows: ten kills of a driver in place of four, and the like.
test-slow: $(STAMP)
	sh tests/run.sh $(BIN) long

# Seeded faults in real studies (kills, full disks, databases away, servers that hang): a sample of six minutes, which CI
# runs. Then all by hand: seeds FROM:TO, which go on where they were interrupted.
CHAOS = cd $(CURDIR) && PYTHONPATH=tests:. $(BIN)/python -m tests.chaos
SEEDS ?= 0:209
SAMPLE := "driver killed" "disk of checkpoints full" "PostgreSQL restarted" "worker killed" "checkpoint flipped" \
  "raylet killed" "database locked" "second node killed"
chaos: $(STAMP)
	$(CHAOS) --seeds 0:8 --kinds $(SAMPLE) --minutes 5

chaos-full: $(STAMP)
	$(CHAOS) --seeds $(SEEDS) --out chaos.jsonl

# What needs a CUDA device: deit_pico there against the CPU. `make test` runs it too, where there is one.
test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu -rs --durations 10

# The lowest versions that pyproject.toml allows, in an environment of their own, and the quick tests with them. Needs uv:
# pip always takes the newest. Constraints, so that a bound that does not exist is an error and not silently raised.
$(COMPAT_STAMP): pyproject.toml tests/lowest_versions.py
	$(PYTHON) -m venv --clear $(COMPAT)
	$(COMPAT)/bin/python tests/lowest_versions.py > $(COMPAT)/lowest.txt
	@UV=$$(command -v uv || { $(COMPAT)/bin/python -m pip install --quiet uv && echo $(COMPAT)/bin/uv; }) && \
	"$$UV" pip install --quiet --compile-bytecode --python $(COMPAT)/bin/python --resolution lowest-direct \
	  --constraints $(COMPAT)/lowest.txt --group test --editable '.[all]'
	touch $@

compat: $(COMPAT_STAMP)
	sh tests/run.sh $(COMPAT)/bin quick

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python benchmarks/cost_and_proposals.py
	$(BIN)/python benchmarks/mlflow_sync.py
	$(BIN)/python benchmarks/start_up.py

# Pins the exact version of every dependency, without index URLs.
lock:
	uv pip compile --quiet --python-version 3.11 --universal --group dev --extra all --no-emit-index-url --no-header \
	  --no-annotate pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) $(COMPAT) demo .sparsesearch .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

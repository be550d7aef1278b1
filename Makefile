# Every target sets up what it needs first; when nothing changed that takes a tenth of a second.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=
SEED ?= 0
TRAINED ?= runs/seed$(SEED)

.DEFAULT_GOAL := help
.PHONY: help demo up test check lint format setup setup-test lock train clean

help:  ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

demo: setup  ## Start everything and annotate six sample videos; stays up until Ctrl-C
	@exec $(BIN)/premask demo

up: setup  ## Start everything: Postgres, Valkey, S3, Label Studio, API, workers; until Ctrl-C
	@exec $(BIN)/premask up

test: setup-test check  ## Everything CI runs: lint, types, layers, all tests that need no GPU

check: lint  ## As `test`, without looking for a browser first
	$(BIN)/pytest -m "not gpu" $(PYTEST_ARGS)

lint: setup  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup:  ## The two virtual environments, from the locks
	@$(PYTHON) scripts/bootstrap.py --label-studio

setup-test:
	@$(PYTHON) scripts/bootstrap.py --label-studio --browser

lock:  ## Resolve the dependencies anew and rewrite both locks
	@$(PYTHON) scripts/bootstrap.py --lock

train: setup  ## The three small models from nothing, on two cores (SEED=0, TRAINED=folder); given again it goes on
	@mkdir -p $(TRAINED)
	@OMP_NUM_THREADS=1 $(BIN)/premask shapeworld train segmenter --out $(TRAINED)/segmenter --seed $(SEED) \
	  > $(TRAINED)/segmenter.log 2>&1 & segmenter=$$!; trap 'kill $$segmenter 2>/dev/null' EXIT; \
	OMP_NUM_THREADS=1 $(BIN)/premask shapeworld train system2 --out $(TRAINED)/system2 --seed $(SEED) && \
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/premask shapeworld train system1 --out $(TRAINED)/system1 \
	  --seed $(SEED) --eyes $(TRAINED)/system2/checkpoint --threads 2 && wait $$segmenter

clean:  ## Remove the stack's state (data, logs, secrets); the environments stay
	@if [ -e .premask/lock ] && ! flock -n .premask/lock true; then echo "a stack is running in .premask"; exit 1; fi
	rm -rf .premask

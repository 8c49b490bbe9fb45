# `make demo` and `make test` do everything from nothing: virtual environment, locked dependencies, Orca itself.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLUSTERS := $(VENV)/.clusters
SUITABLE := (3, 11) <= sys.version_info[:2] <= (3, 13)

# python3 where it is recent enough, else the newest that is. Expanded in the recipe alone, so a ready set-up pays nothing.
PYTHON ?= $(or $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not $(SUITABLE))' 2>/dev/null && echo $$python && break; done),python3)

.DEFAULT_GOAL := help
.PHONY: help setup demo test services lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo "  PYTHON=python3.12 chooses the interpreter of a new environment (3.11 to 3.13)."

setup: $(READY) ## make the environment and install what constraints.txt locks

demo: $(READY) ## adapt MiniLM to handwritten digits, end to end, offline
	$(BIN)/orca run demo

test: $(READY) ## run the unit tests; more in TESTS, e.g. TESTS="tests/test_align.py -m slow"
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

# They wait more than they compute: a process for each file.
services: $(CLUSTERS) ## run the tests with servers, workers, clusters and a browser
	$(BIN)/python -m pytest -m services -n 4 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(READY) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY) ## write the format and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and the caches; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last: an installation that was interrupted starts again.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Orca needs Python 3.11, 3.12 or 3.13; found no '$(PYTHON)'. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; $(SUITABLE) or sys.exit("Orca needs Python 3.11, 3.12 or 3.13; found %s (%s). Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" % (sys.version.split()[0], sys.executable))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[offline,optuna,test,dev]'
	@touch $@

# Dask and Ray, 350 MB that the tests of clusters need and a run does not.
$(CLUSTERS): $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dask,ray]'
	@touch $@

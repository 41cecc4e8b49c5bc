# `make` lists the targets. Everything is installed into .venv and nothing outside this folder is changed.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick check format bench bench-stream bench-parts docs clean
SHELL := /bin/bash

# A compiled kernel or module that is not written down is compiled again by every process.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest
PYTEST_ARGS ?=
WORKERS ?= 2
XDIST := -n $(WORKERS)
BENCH_ARGS ?=

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make .venv with everything installed and compiled (again only when what is listed there changes), and the engines that tests need

$(STAMP): pyproject.toml constraints.txt $(wildcard tests/engines/provide tests/engines/*/pom.xml)
	@if ! [ -x $(BIN)/python ]; then \
	  python=""; \
	  for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then echo "No Python 3.11 or newer was found; name one: make setup PYTHON=/path/to/python3" >&2; exit 1; fi; \
	  $$python -m venv .venv || { rm -rf .venv; echo "$$python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }; \
	fi
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m twofold.runtime.kernels
	@tests/engines/provide .venv/engines
	@touch $@

demo: setup ## the whole job on real flights, in about five minutes
	$(BIN)/python examples/demo.py

test: setup ## all tests, by two processes beside each other (WORKERS=0: by one)
	$(PYTEST) $(XDIST) $(PYTEST_ARGS)

test-quick: setup ## the tests that are not marked slow, below 90 s
	$(PYTEST) $(XDIST) -m "not slow" --hypothesis-profile=quick $(PYTEST_ARGS)

check: setup ## format, lint, types, layers, and what may not stand in a tracked file
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) tests/test_layers.py tests/test_tracked_files.py

format: setup ## format all files and mend what the linter can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: setup ## the batch benchmark beside its peers (sizes: BENCH_ARGS="--events 1000000 --rows 100000")
	$(BIN)/python bench/side_by_side.py $(BENCH_ARGS)

bench-stream: setup ## the speed layer beside its peers, one core each (BENCH_ARGS="--events 200000 --only ours,flink")
	$(BIN)/python bench/stream_side_by_side.py $(BENCH_ARGS)

bench-parts: setup ## the benchmarks of single parts
	@for file in $$(grep -l '^if __name__' bench/*.py | grep -v -e side_by_side -e history_data -e stream_); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: setup ## links, examples, glossary and public names of the documentation
	$(PYTEST) tests/docs $(PYTEST_ARGS)

clean: ## remove what was built and cached (not .venv, not .twofold)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

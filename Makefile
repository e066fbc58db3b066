# `make demo` and `make test` need Python 3.11 and make; they set up all the rest.
# A Python that is not found by itself: make demo PYTHON=/path/to/python3.11

BIN := .venv/bin
JOBS ?= 2
TIMES ?= 5
FILES ?=
INPUTS ?= 20000

.PHONY: help setup setup-tests demo proof test test-under-load fuzz audit lint format bench faults sizes \
	generated constraints constraints-gpu clean distclean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup:  ## build .venv from constraints.txt (at once where it is up to date)
	@.ci/setup

setup-tests:
	@.ci/setup tests

demo: setup  ## the whole way, small: render, split, validate, train, evaluate, report
	$(BIN)/tvr demo

proof: setup  ## render, train by SFT and GRPO, test: what docs/proof.md shows, in about an hour
	$(BIN)/python -m examples.proof --jobs $(JOBS)

test: setup-tests lint  ## lint, then the whole test suite
	$(BIN)/pytest -n $(JOBS) --dist loadfile

test-under-load: setup-tests  ## the suite, or FILES of it, TIMES times beside eight busy processes
	@busy=; trap 'kill $$busy' EXIT; trap 'exit 1' INT TERM; \
	for k in 1 2 3 4 5 6 7 8; do while :; do :; done & busy="$$busy $$!"; done; \
	for k in $$(seq $(TIMES)); do \
	  echo "== $$k of $(TIMES)"; $(BIN)/pytest -n $(JOBS) --dist loadfile $(FILES) || exit 1; \
	done

fuzz: setup  ## mutate every kind of file that is read, INPUTS times in all: docs/security.md
	@$(BIN)/python -W ignore -m tests.fuzz --inputs $(INPUTS) --workers $(JOBS)

audit: setup  ## ask osv.dev what is known of the installed packages
	@$(BIN)/python -m tests.audit

lint: setup  ## formatting, style and types, as pre-commit and `make test` check them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup  ## put the code into the form that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## run tests/benchmarks/bench_*.py (frontier.py takes an hour by itself)
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

faults: setup  ## kill training on fresh data at random moments; its memory and disk (an hour)
	@$(BIN)/python -m tests.benchmarks.fresh_kills
	@$(BIN)/python -m tests.benchmarks.fresh_flat

sizes: setup  ## install every extra into an environment of its own; print what it weighs
	@$(BIN)/python -m tests.environments

generated: setup  ## write schemas, key pages and the drawing anew from the code
	@$(BIN)/python -m docs.generate

constraints:  ## pin what is in .venv now (first upgrade there what you want to upgrade)
	@{ grep '^#' constraints.txt; \
	   $(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; } > constraints.new
	@mv constraints.new constraints.txt

constraints-gpu: setup  ## constraints-gpu.txt from constraints.txt: training and vLLM, Python 3.12
	@grep -vE '^(#|bpy|fastapi|numpy|pyarrow)' constraints.txt > constraints.new
	@{ grep '^#' constraints-gpu.txt; \
	   echo vllm | $(BIN)/uv pip compile -q --no-header --no-annotate --python-version 3.12 \
	     --python-platform x86_64-manylinux_2_28 --extra train --extra quantize --extra ask --extra report \
	     -c constraints.new pyproject.toml -; } > constraints-gpu.new
	@rm constraints.new; mv constraints-gpu.new constraints-gpu.txt

clean:  ## remove caches, build products and the demo's output
	rm -rf build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean  ## remove all environments and the proof's folder as well
	rm -rf .venv .venv-tests proof

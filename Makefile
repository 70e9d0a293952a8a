# Tasks. `make help` lists them; each makes what it needs first, from python3 (3.11 or later, with venv) and make alone.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
LINKFLOW := $(PY) -m subgraphs.platform.cli
export PYTHONPATH := $(CURDIR)
export PYTHONNOUSERSITE := 1
SEEDS ?= 300
FROM ?= 1
JOBS ?= 2
.PHONY: help dev serve test test-all test-coverage lint format build generate migrate seed clean bench simulate behaviours lock environment tools packages

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

dev: environment ## start everything, run the example, stay up until Ctrl-C
	@exec $(LINKFLOW) dev

test: tools packages ## all tests
	@$(PY) -m pytest $(TESTS)

test-all: lint test build behaviours ## lint, tests, 10,000 simulated seeds, the wheel, the pure core on every Python here
	@$(PY) -W ignore -m tests.simulation --seeds 10000 --jobs 2
	@SIZE=full $(PY) -m pytest tests/crashes
	@for other in python3.12 python3.13; do \
	  if command -v $$other >/dev/null && PYTHON=$$other VENV=.venv/$$other .ci/setup tools; then \
	    .venv/$$other/bin/python -m pytest tests/subgraphs/engine tests/resolvers || exit 1; \
	  else echo "$$other is not here: not tried"; fi; done

test-coverage: tools packages ## all tests, and which lines they reach
	@$(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest $(TESTS)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report

lint: tools packages ## style, import contracts, types, size limits, licences of the graph
	@failed=0; \
	$(PY) -m ruff check --quiet . || failed=1; \
	$(PY) -m ruff format --check --quiet . || { failed=1; echo "make format mends the layout of some files"; }; \
	$(PY) tests/architecture/limits.py || failed=1; \
	.venv/bin/lint-imports >.venv/contracts.txt || { failed=1; cat .venv/contracts.txt; }; \
	$(PY) router/licence_lint.py router/router.yaml supergraph/supergraph.graphql || failed=1; \
	$(PY) -m mypy || failed=1; \
	exit $$failed

format: tools ## rewrite the sources in the house style
	@$(PY) -m ruff check --fix --quiet .; $(PY) -m ruff format --quiet .

build: tools ## the wheel, in dist/
	@$(PY) -m hatchling build -t wheel

generate: environment packages ## write the SDL of each subgraph and compose the supergraph
	@$(LINKFLOW) schema
	@$(LINKFLOW) compose

migrate: environment ## bring the configured database up to date (`make dev` does it by itself)
	@$(LINKFLOW) migrate

seed: environment ## run the example against a LinkFlow that is up
	@$(LINKFLOW) seed

bench: tools packages ## print the figures of this machine
	@for bench in tests/benchmarks/figures.py tests/benchmarks/bench_*.py; do \
	  [ ! -e "$$bench" ] || $(PY) "$$bench" || exit 1; done

simulate: tools ## seeds of the whole engine in virtual time: SEEDS=10000 FROM=1 JOBS=2, or SEED=123 told step by step
	@$(PY) -W ignore -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM) --jobs $(JOBS)) $(SIMULATE)

behaviours: tools ## promises without a test
	@$(PY) tests/behaviours/report.py

lock: tools ## pin the newest versions that fit, with hashes and without addresses
	@.ci/lock

clean: ## remove what was made here; the data in .linkflow stays
	@rm -rf .venv dist build htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache router/node_modules
	@find subgraphs resolvers sandbox tests migrations -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@echo "Clean. Your data is still in .linkflow; remove that folder to forget it."

environment:
	@.ci/setup run

tools:
	@.ci/setup tools

packages:
	@$(LINKFLOW) doctor --repair --quiet

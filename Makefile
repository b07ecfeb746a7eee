# Everything from a bare checkout: each target sets up what it needs. `make help` lists them.
# Variables: PYTHON (3.11 or later), TORCH_INDEX_URL (a further index for torch), PYTEST_ARGS, STACK_ARGS.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PYTEST_ARGS ?= -n 2
export PYTHON TORCH_INDEX_URL

# Settings of the caller's own runs must not reach ours.
unexport $(filter-out LOOPSCOPE_REQUIRE_%,$(filter LOOPSCOPE_%,$(.VARIABLES)))

# As images of containers have it: each of the many processes that the tests start would compile our sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo stack test lint bench docs site screenshots dist gpu-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt scripts/install
	@scripts/install

demo: $(READY) ## train a small network on real digits, watched by loopscope, for about a minute
	@$(BIN)/loopscope demo

stack: $(READY) ## Prometheus and Alertmanager with our rules, a loop that goes wrong, and the alert that comes of it
	@LOOPSCOPE_REQUIRE_PROMETHEUS=1 scripts/install-prometheus
	@$(BIN)/python scripts/stack.py $(STACK_ARGS)

test: lint ## lint, then all tests (with root and apt-get also installs Debian's prometheus, alertmanager and chromium)
	@scripts/install-prometheus
	@scripts/install-chromium
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY) ## ruff, mypy strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(READY) ## measure the overhead and put the table into the README
	@$(BIN)/python benchmarks/overhead.py && $(BIN)/python benchmarks/readme.py

docs: $(READY) ## generate docs/metrics.md and what else comes from the code
	@$(BIN)/python docs/generate.py
	@$(BIN)/loopscope rules --out dashboards/rendered

site: $(READY) ## check the links of the documentation and render it into build/docs
	@$(BIN)/python docs/build.py

screenshots: $(READY) ## take the pictures of docs/images from real runs (needs chromium)
	@$(BIN)/python scripts/screenshots.py

dist: $(READY) ## build the sdist and the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

# On a machine with a GPU and its own torch: no venv, no network.
gpu-check: ## run tests/gpu with the python3 that is there
	@PYTHONPATH=agent:exporters:dashboards PYTHONDONTWRITEBYTECODE=1 python3 -m pytest tests/gpu -p no:cacheprovider

clean: ## remove the venv, caches and build outputs
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

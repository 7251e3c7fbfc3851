# Everything runs from a virtual environment in .venv, made on first use. `make` alone lists the targets.

PYTHON ?= python3
ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test test-slow test-postgresql test-browser test-exhaustive test-all check docs format advisories \
	fuzz bench experiments notebooks clean

# Many small computations: a second thread costs more in waiting than it gives.
test test-slow test-postgresql test-browser test-exhaustive test-all: export OMP_NUM_THREADS := 1

# Processes that share the tests; JOBS=0: this one alone, and a debugger works.
SPREAD = -n $(JOBS) --dist loadgroup

help: ## list the targets
	@echo 'usage: make TARGET [ARGS="extra arguments of the command"] [PYTHON=python3.12]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(DEV) ## make .venv with everything for development

demo: $(DEMO) ## train, forget, recover and verify on real data
	$(BIN)/unlearn demo $(ARGS)

test: $(DEV) ## run the tests, but for the slow ones and those that need a server or a browser
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not exhaustive and not postgresql and not browser" $(ARGS)

test-slow: $(DEV) ## run only the slow tests
	$(BIN)/python -m pytest $(SPREAD) -m "slow and not exhaustive and not postgresql and not browser" $(ARGS) || [ $$? -eq 5 ] # 5: there are none

test-postgresql: $(DEV) ## run the tests that start a PostgreSQL server of their own
	$(BIN)/python -m pytest -m "postgresql and not exhaustive" $(ARGS)

test-browser: $(DEV) ## run the tests that open reports in Chromium, and print them
	$(BIN)/python -m pytest -m "browser and not exhaustive" $(ARGS)

test-exhaustive: export UNLEARN_FAULTS := experiments/faults/result.json
test-exhaustive: $(DEV) ## run the tests that try everything where others try a part: an hour or more
	$(BIN)/python -m pytest -m exhaustive $(ARGS)
	$(BIN)/python -m experiments.readme faults
	$(BIN)/python -m experiments.index

test-all: $(DEV) ## run all tests
	$(BIN)/python -m pytest $(ARGS)

check: $(DEV) ## check format, lint, types, the direction of imports, and for insecure code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml shards unlearn

docs: $(DEV) ## build the documentation into build/site, with warnings as errors; nothing is fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict -f unlearn/docs/mkdocs.yml $(ARGS)
	@echo 'build/site/index.html; with a search box: $(BIN)/python -m http.server --directory build/site'

format: $(DEV) ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

advisories: $(DEV) ## look for known weaknesses in installed packages; asks pypi.org, and passes if it does not answer
	$(BIN)/python .ci/advisories.py

fuzz: $(DEV) ## fuzz what reads files and texts, guided by coverage; ARGS="-- -max_total_time=600" for longer
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(DEV) ## measure speed
	$(BIN)/python -m experiments.bench $(ARGS)
	$(BIN)/python -m experiments.bench_growth $(ARGS)
	$(BIN)/python -m experiments.bench_ledger $(ARGS)
	$(BIN)/python -m experiments.bench_ingest $(ARGS)
	$(BIN)/python -m experiments.bench_audit $(ARGS)
	$(BIN)/python -m experiments.bench_ray $(ARGS)

experiments: $(DEV) ## run all experiments in their quick form; ARGS="--full NAME" as published
	$(BIN)/python -m experiments $(ARGS)

notebooks: $(DEV) ## run every notebook and keep its output
	$(if $(NOTEBOOKS),$(BIN)/jupyter-execute --inplace $(NOTEBOOKS),@echo 'there are no notebooks')

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -path ./$(VENV) -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

# $(call install,EXTRA): make .venv if need be, and install the project with one set of extras.
define install
	@$(PYTHON) -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or later is needed, and $(PYTHON) is not: run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo 'Making $(VENV) with $(PYTHON)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip
	@echo 'Installing the project with its "$(1)" extra: torch is large, this takes some minutes the first time'
	@$(BIN)/pip install --quiet -e '.[$(1)]'
	@echo 'Installed'
endef

# The development environment holds all that the demo needs, so it leaves both stamps.
$(DEV): pyproject.toml
	$(call install,dev)
	@touch $(DEV) $(DEMO)

$(DEMO): pyproject.toml
	$(call install,demo)
	@touch $(DEMO)

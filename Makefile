# Everything runs from a virtual environment in .venv, made on first use. `make` alone lists the targets.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test test-slow test-all check format bench notebooks clean

# Many small computations: a second thread costs more in waiting than it gives.
test test-slow test-all: export OMP_NUM_THREADS := 1

help: ## list the targets
	@echo 'usage: make TARGET [ARGS="extra arguments of the command"] [PYTHON=python3.12]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

setup: $(DEV) ## make .venv with everything for development

demo: $(DEMO) ## train, forget, recover and verify on real data
	$(BIN)/unlearn demo $(ARGS)

test: $(DEV) ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(DEV) ## run only the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS) || [ $$? -eq 5 ] # 5: there are none

test-all: $(DEV) ## run all tests
	$(BIN)/python -m pytest $(ARGS)

check: $(DEV) ## check format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(DEV) ## measure speed
	$(BIN)/python -m experiments.bench $(ARGS)

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

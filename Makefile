# A fresh machine with Python 3.11 or later and make: `make demo`, `make test`. PYTHON= chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "KatiML needs Python 3.11 or later; choose one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# A stamp is as new as the last installation; pyproject.toml being newer means that packages may have changed.
$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[backtest,cloud,demo,index,plots,test,lint]'
	touch $@ $(VENV)/.installed-demo

demo: $(VENV)/.installed-demo  ## real images and a model's doubts, in and out of a lake
	$(BIN)/katiml demo

test: $(VENV)/.installed  ## the whole test-suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.installed  ## how fast, beside the floor on this machine; QUICK=1 for a tenth
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

clean:  ## everything that was made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

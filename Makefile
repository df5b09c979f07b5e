# A fresh machine with Python 3.11 or later and make: `make demo`, `make test`. PYTHON= chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo web test test-web lint bench clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "KatiML needs Python 3.11 or later; choose one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# A stamp is as new as the last installation; pyproject.toml being newer means that packages may have changed.
$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[demo]'
	touch $@

# One version of torch, so that every machine tests the same. All of it needs some 4 GB of disk.
TESTED := 'torch==2.13.0' --editable '.[backtest,cloud,demo,formats,hf,index,lint,plots,polars,ray,tensorflow,test,torch]'

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet $(TESTED)
	touch $@ $(VENV)/.installed-demo

demo: $(VENV)/.installed-demo  ## real images and a model's doubts, in and out of a lake
	$(BIN)/katiml demo

STATIC := src/katiml/server/static
WEB_SOURCES := $(shell find web/src web/public -type f -not -name schema.d.ts 2>/dev/null) \
	$(wildcard web/*.ts web/*.mjs web/*.html web/package*.json web/tsconfig.json)
# The typed client is made of the API, so the API is one of its sources.
API_SOURCES := $(wildcard src/katiml/server/*.py src/katiml/server/routes/*.py)

web: $(STATIC)/index.html  ## the web app, built into the package (needs Node.js 20 or later)

web/node_modules/.installed: web/package-lock.json
	cd web && npm ci --no-fund --no-audit --loglevel=error
	touch $@

$(STATIC)/index.html: web/node_modules/.installed $(WEB_SOURCES) $(API_SOURCES) | $(VENV)/.installed-demo
	$(BIN)/python -m katiml.server.published > web/openapi.json
	cd web && npm run --silent build
	touch $@

test: $(VENV)/.installed  ## the whole test-suite
	@command -v npm > /dev/null && $(MAKE) --no-print-directory web || \
		echo 'The web app was not built: the tests of its pages are skipped.'
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-web: $(VENV)/.installed web  ## the tests of the web app in Chromium
	$(BIN)/python -m pytest -n 0 tests/web

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.installed  ## how fast, beside the floor on this machine; QUICK=1 for a tenth
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

clean:  ## everything that was made here
	rm -rf $(VENV) $(STATIC) web/node_modules web/openapi.json web/src/api/schema.d.ts build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

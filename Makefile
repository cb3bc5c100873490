# Two commands matter: `make run` and `make test`. The rest is what they are made of.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := requirements/constraints.txt
PAGE := src/tokenscope/server/page/index.html
WEB_SOURCES := $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/package-lock.json web/vite.config.ts
WORKERS ?= auto
ARGS ?=

.PHONY: run test setup dev page wheel python-checks python-tests web-checks journeys types clean help

help:
	@echo "make run     set everything up and serve the page with the bundled model (ARGS='--port 8500')"
	@echo "make test    everything: tests, types, lint, floors, web checks, browser journeys"
	@echo "make page    build the page only;  make types   write the wire's schema and types again"
	@echo "make wheel   the source archive, and from it the wheel with the page, into dist/"

run: setup page
	@$(BIN)/tokenscope serve $(ARGS)

test: dev page python-checks web-checks python-tests journeys
	@echo "all checks passed"

# --- set-up -------------------------------------------------------------------------------------
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "TokenScope needs Python 3.11 or newer (set PYTHON=...)"; exit 3; }
	$(PYTHON) -m venv $(VENV)

# The CPU build of PyTorch comes from a wheel folder or from PyTorch's own CPU wheel index, given
# to pip as an extra index. Without either the default build is taken (on Linux it brings CUDA).
$(VENV)/.torch: requirements/torch-cpu.txt | $(BIN)/python
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install -q -r requirements/torch-cpu.txt || \
	  { echo "no CPU-only build of PyTorch found (see docs/install.md); taking the default build"; \
	    $(PIP) install -q torch==2.13.0; }
	@touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml $(CONSTRAINTS)
	$(PIP) install -q -e '.[gguf]' -c $(CONSTRAINTS)
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) install -q -e '.[dev]' -c $(CONSTRAINTS)
	@touch $@

setup: $(VENV)/.run

dev: $(VENV)/.dev

# --- the page -----------------------------------------------------------------------------------
web/node_modules/.ready: web/package-lock.json web/package.json | $(BIN)/python
	web/npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PAGE): web/node_modules/.ready $(WEB_SOURCES)
	web/npm run --silent build
	@touch $@

page: $(PAGE)

# The wheel is built from the source archive, so that the archive is known to be enough.
wheel: dev page
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

types: dev web/node_modules/.ready
	$(BIN)/python -m tokenscope.server.schema > web/openapi.json
	web/npm run --silent types

# --- checks -------------------------------------------------------------------------------------
python-checks: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The real model is fetched once, before the workers start; without it its tests skip, saying why.
python-tests: dev
	@$(BIN)/python -m tests.real_model 2>/dev/null
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not journey"

web-checks: page
	web/npm run --silent check
	web/npm run --silent lint
	web/npm test --silent

# One browser at a time: journeys share two cores with the model that they talk to. Where nobody
# watches, a journey that fails is walked once more, and both walks are told.
journeys: dev page
	$(BIN)/python -m pytest -n 0 -m journey tests/journeys $(if $(TOKENSCOPE_CI),--reruns 1 -r R)

clean:
	rm -rf $(VENV) web/node_modules src/tokenscope/server/page build dist

# `make` alone lists the targets. Everything runs from this folder; GNU make 4.3 is enough.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all check bench chaos up status down demo-fresh lock clean

PYTHON := .venv/bin/python
SETUP := deploy/local/setup.sh
# SPEED=10 plays the fire ten times faster; left out, the demo's own default holds.
SPEED ?=

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1  \2/p' $(MAKEFILE_LIST)

demo:  ## set up what is missing and play a recorded house fire through the whole path (SPEED=10)
	@$(SETUP) run
	@$(PYTHON) -m deploy.local.demo $(if $(SPEED),--speed $(SPEED))

test:  ## set up what is missing and run the tests against the real servers, with time per suite
	@$(SETUP) test
	@$(PYTHON) -m deploy.local.suites unit contract simulation integration chaos

test-all: ## the tests, and long fuzz, storms, fault runs
	@$(SETUP) test
	@SIZAO_LONG=1 $(PYTHON) -m deploy.local.suites unit contract simulation integration chaos

check: ## ruff, mypy, import laws, layout
	@$(SETUP) dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m pytest -q tests/contract/test_layout.py

bench: ## the benchmarks; JSON under build/bench/ (PROFILE=quick, default or full; SHAPE=json-30k: that load alone)
	@$(SETUP) run
	@$(PYTHON) -m deploy.local.bench --profile $(or $(PROFILE),default) $(if $(SHAPE),--shape $(SHAPE))
	@if [ "$(PROFILE)" != quick ] && [ -z "$(SHAPE)" ]; then $(PYTHON) -m deploy.local.bench_detect && $(PYTHON) -m deploy.local.bench_registry; fi

chaos: ## the long fault runs; summaries under build/chaos/ (SEED=17 draws others)
	@$(SETUP) test
	@SIZAO_LONG=1 $(if $(SEED),SIZAO_SEED=$(SEED)) $(PYTHON) -m deploy.local.suites chaos

up: ## start everything and leave it running; prints every address
	@$(SETUP) run
	@$(PYTHON) -m deploy.local up

status: ## what runs of it; exit 0 if all of it
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m deploy.local status; else echo "nothing is up"; exit 1; fi

down: ## stop what `make up` started
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m deploy.local down; fi

demo-fresh: ## the demo in a fresh Debian 12, made for it and removed after (root; FRESH_COMMAND=...)
	@deploy/local/fresh.sh

lock: ## make requirements/*.txt anew from pyproject.toml
	@$(SETUP) lock

clean: down ## remove everything that was made here
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m deploy.local clean; fi
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

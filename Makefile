# `make` prints what there is.

# 3.11 is what is tested. A name may be a shim without a Python behind it, so each is run.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14; do \
    $$p -c '' 2>/dev/null && echo $$p && exit; done; echo python3)
CHECK_PYTHON := import sys; sys.exit(sys.version_info < (3, 11) and \
    "Python 3.11 or later is needed; %s is %s. Name another: make PYTHON=..." \
    % (sys.executable, sys.version.split()[0]))
BIN := .venv/bin
# The lock is whole. Left to look for dependencies, pip takes the newest `coverage[toml]` there is
# and finds that its hash isn't the lock's.
INSTALL := $(BIN)/pip install -q --disable-pip-version-check --no-deps

.DEFAULT_GOAL := help
.PHONY: help run test lint types torture model mutants bench limits lock clean

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/run ## Serve on port 8000 (PORT=… for another); without TRIGGER_SECRET_KEY, a demo.
	@exec $(BIN)/python -m recoup

test: lint types ## Lint, types, and the whole suite on SQLite and Postgres; T=… for a part of it.
	$(BIN)/python -m pytest $(or $(T),-n 8 --dist worksteal -m "not alone")
	$(if $(T),,$(BIN)/python -m pytest -n 2 -m alone)

lint: .venv/dev ## Style, likely bugs, and that imports go down only.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: .venv/dev ## Type hints.
	$(BIN)/mypy

torture: .venv/dev ## Kill the service at random for some minutes, and count what was lost (0).
	$(BIN)/python -m tests.torture

model: .venv/dev ## Explore every order in which deletions, faults and crashes can meet; some ten minutes.
	@$(BIN)/python -m tests.model

mutants: .venv/dev ## Change the core at one place after the other, and say what no test noticed; F=… for a file.
	$(BIN)/python -m tests.mutants $(F)

bench: .venv/dev ## Measure the service beside the least that could do the same; some ten minutes.
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.plot

limits: .venv/dev ## Growth to a million rows, memory, overload, a worked sizing, the guard; some ten minutes.
	$(BIN)/python -m benchmarks.limits

lock: ## Write the locked requirements anew from setup.cfg; needs uv.
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --extra build \
	    setup.cfg -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --extra build \
	    --extra dev setup.cfg -o requirements-dev.txt

clean: ## Remove what make and the tests have made; the database in instance/ stays.
	rm -rf .venv build *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/python:
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv .venv || (echo "On Debian: apt-get install python3-venv" >&2; exit 1)
	@touch $@

.venv/run: .venv/python requirements.txt setup.cfg
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

# One command each; `make help` lists them. Everything is installed into .venv, once.
# PYTHON=… picks the interpreter, STRICT=1 lets no test be skipped for a missing service.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
STRICT ?=
PYTEST_ARGS ?=
WORKERS ?= 3
DEMO_ARGS ?=
CHAOS_ARGS ?=
CRASH_ARGS ?=

ifeq ($(STRICT),1)
export REQUIRE_SERVICES := 1
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What is installed depends on this folder and on pyproject.toml; a stamp of their checksum says
# that it has been done, so that the second run needs no network and no time.
KEY := $(shell { echo "$(CURDIR)"; cat pyproject.toml; } | cksum | cut -d' ' -f1)
INSTALLED := $(VENV)/.installed-$(KEY)
TOOLS := $(VENV)/.tools-$(KEY)

.DEFAULT_GOAL := help
.PHONY: demo test lint fix bench chaos crash phoenix clean help
.NOTPARALLEL:

demo: $(INSTALLED) ## run a real flow and show its trace (DEMO_ARGS=folder)
	@$(BIN)/pocketflow-async demo $(DEMO_ARGS)

# In several processes, file by file: it is quicker, and one that has run nine thousand tests is so
# large that all that creates classes or collects garbage takes several times as long in it.
test: lint ## check style and types, then run all tests (PYTEST_ARGS=…)
	@$(BIN)/python -m pytest $(or $(PYTEST_ARGS),-n $(WORKERS) --dist loadfile)

lint: $(TOOLS) ## check style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

fix: $(TOOLS) ## format, and correct what can be corrected
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(TOOLS) ## compare with PocketFlow and a bare loop
	@for script in benchmarks/[a-z]*.py; do \
		test -f "$$script" || { echo "make: there are no benchmarks yet" >&2; exit 1; }; \
		echo "== $$script"; $(BIN)/python -P "$$script" || exit 1; \
	done

chaos: $(INSTALLED) ## send 100,000 spans against every fault, killed in the middle (CHAOS_ARGS=…)
	@$(BIN)/python -m chaos $(CHAOS_ARGS)

crash: $(TOOLS) ## kill workflows at every step, and look how they go on (CRASH_ARGS="--rounds 500")
	@$(BIN)/python -m crash $(CRASH_ARGS)

phoenix: $(INSTALLED) ## send a run to a real Phoenix and read it back (installs 850 MB, once)
	@$(BIN)/python -m chaos.phoenix .venv-phoenix

clean: ## remove .venv and everything that was made
	@rm -rf $(VENV) .venv-phoenix phoenix.png dist build pocketflow-report.md .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

# A candidate counts when it runs (a pyenv shim may exist and fail) and has what we need.
FIND_PYTHON = \
	usable() { "$$1" -c 'import sys, ssl, sqlite3, venv; sys.exit(sys.version_info < (3, 11))' \
		>/dev/null 2>&1 </dev/null; }; \
	found=; \
	if [ -n "$(PYTHON)" ]; then \
		if usable "$(PYTHON)"; then found="$(PYTHON)"; else \
			echo "make: PYTHON=$(PYTHON) does not run, is older than 3.11, or lacks ssl, sqlite3 or venv" >&2; exit 1; \
		fi; \
	else \
		for one in python3.13 python3.12 python3.11 python3.14 python3 python; do \
			if usable "$$one"; then found="$$one"; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make: no Python >= 3.11 found (with ssl, sqlite3 and venv)." >&2; \
			echo "make: install one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3" >&2; exit 1; \
		fi; \
	fi

# Debian's python3 has no ensurepip without python3-venv; its pip, if there is one, can do as well.
MAKE_VENV = \
	if "$$found" -c 'import ensurepip' 2>/dev/null; then \
		"$$found" -m venv --clear $(VENV); \
	elif "$$found" -m pip --version >/dev/null 2>&1; then \
		"$$found" -m venv --clear --without-pip $(VENV) && \
		"$$found" -m pip --python $(BIN)/python install -q pip; \
	else \
		version=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "make: $$found can make no virtual environment: it lacks ensurepip and pip." >&2; \
		echo "make: on Debian and Ubuntu: apt-get install python$$version-venv (or python3-venv)" >&2; \
		exit 1; \
	fi

$(INSTALLED):
	@set -e; \
	if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
		|| ls $(VENV)/.installed-* >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		echo "make: creating $(VENV) with $$($$found --version)" >&2; \
		$(MAKE_VENV); \
	fi
	@echo "make: installing the package into $(VENV) (once)" >&2
	@$(BIN)/python -m pip install -q -e .
	@touch $@

$(TOOLS): $(INSTALLED)
	@echo "make: installing what the tests need into $(VENV) (once)" >&2
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q --group test --group lint
	@touch $@

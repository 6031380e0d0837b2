# Everything that is run, in one place. A fresh clone needs Python 3.11 and this file.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python

# Where the lab lies and what else it is told, e.g. make lab LAB="-c other.conf -o other/"
LAB ?=
# What is built and how, e.g. make images IMAGES="all --debian-mirror http://mirror.example.org/debian"
IMAGES ?=
PYTEST ?=

.PHONY: lab lab-down stop test check proto bench faults images clean help

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; say where it is: make lab PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.develop: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

lab: $(VENV)/.runtime ## Two parties as local processes, verified.
	$(RUN) generate_config.py --engine process $(LAB)
	$(RUN) deploy.py all --engine process $(LAB)

lab-down: $(VENV)/.runtime ## Stop the lab; its data stays.
	$(RUN) deploy.py all --delete --engine process $(LAB)

stop: lab-down

test: $(VENV)/.develop ## Every test tier that this machine can run, each with its time; as root it installs Docker if need be.
	@set -e; trap 'sh tests/containers/engine.sh stop' EXIT; \
	sh tests/containers/engine.sh || echo "engine: the tests that need what is missing say so" >&2; \
	set -x; \
	$(RUN) -m pytest -n 3 -m "not matrix" tests/unit tests/protocol $(PYTEST); \
	$(RUN) -m pytest -n 2 --dist loadfile -m "not matrix" tests/lab $(PYTEST); \
	$(RUN) -m pytest -m "not matrix" tests/containers $(PYTEST)

check: $(VENV)/.develop ## Style, types, layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config .importlinter

proto: $(VENV)/.develop ## Write fedparty/rpc/v1/ from proto/.
	PYTHON=$(RUN) sh proto/generate.sh

# What the benchmarks share, and the peers, which come first: their figures stand beside ours.
BESIDE := $(addprefix benchmarks/,figures.py beside.py peers.py)

bench: $(VENV)/.develop ## Each figure of the README, beside its peer or limit.
	@for each in benchmarks/peers.py $(filter-out $(BESIDE),$(wildcard benchmarks/*.py)); do $(RUN) $$each || exit 1; done

faults: $(VENV)/.develop ## The whole matrix of what is broken on purpose.
	@set -e; trap 'sh tests/containers/engine.sh stop' EXIT; sh tests/containers/engine.sh; \
	set -x; \
	$(RUN) -m pytest tests/protocol -m matrix $(PYTEST); \
	$(RUN) -m pytest -n 2 --dist loadfile tests/lab $(PYTEST); \
	$(RUN) -m pytest tests/containers $(PYTEST)

images: $(VENV)/.runtime ## The container images, by this machine's Docker.
	$(RUN) deploy.py images build $(IMAGES)

clean: ## Remove what tools left behind; not the lab, not .venv.
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

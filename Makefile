# limbeck: two commands matter, each of them starts from nothing but Python 3.11, pip, git and make.
#
#   make demo    set up .venv from the lock and run the main job
#   make test    set up .venv from the lock and run the tests
#
# `make test` stays within twenty minutes on two cores, with nothing compiled before; `make test-all` runs every case.
#
# Further targets: setup, lint, format, docs, bench, lock, clean. Setup is skipped while its stamp is newer than the locks.

SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(shell $(p) -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $(p))))
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := .venv/.runtime-stamp
DEV := .venv/.dev-stamp

.PHONY: demo test test-all setup lint format docs bench lock clean
.DEFAULT_GOAL := test

demo: $(RUNTIME)
	$(BIN)/limbeck demo

test: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m ""

setup: $(DEV)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(RUNTIME)
	$(BIN)/limbeck bench

# The package itself is installed without the network: its build backend is in the lock as well.
define install
	@$(if $(PYTHON),,echo "limbeck needs Python 3.11 or later; neither python3.11 nor python3 is that." >&2; exit 1)
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --require-hashes -r $(1)
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation -e .
	@touch $@
endef

$(RUNTIME): requirements.lock pyproject.toml
	$(call install,requirements.lock)

$(DEV): requirements-dev.lock requirements.lock pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $(RUNTIME)

# The locks name every file's hash and no index, for all platforms and Python 3.11 or later. `make lock LOCK_ARGS=--upgrade` renews them.
UV := build/lock/bin/uv
COMPILE := $(UV) pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --group build

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) $(LOCK_ARGS) --output-file requirements.lock
	$(COMPILE) $(LOCK_ARGS) --group test --group lint --group docs --extra pettingzoo --extra lbf --extra rware --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv build dist site .pytest_cache .ruff_cache .hypothesis

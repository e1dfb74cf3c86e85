# make          installs into .venv      make demo   from patches to a map, in minutes
# make test     runs the whole suite     make check  lint, format and types
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PLATFORM := $(shell $(PYTHON) -c 'import platform, sys; print(sys.platform + "-" + platform.machine())')
LOCKED := $(if $(filter linux-x86_64,$(PLATFORM)),$(filter 3.11 3.12 3.13,$(PYTHON_VERSION)))
STAMP := $(VENV)/.installed

.PHONY: all demo test check clean
all: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
ifneq ($(LOCKED),)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) --no-deps --no-build-isolation -e .
else
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -e '.[dev]'
endif
	touch $@

demo: $(STAMP)
	$(BIN)/covermap demo

# One process per core, of one thread each.
test: export OMP_NUM_THREADS := 1
test: $(STAMP)
	$(BIN)/python -m pytest -n logical --maxprocesses 8

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist

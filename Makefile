# make demo    install into .venv, then chat, complete code and call a function with the bundled model
# make serve   the same model behind HTTP: http://127.0.0.1:8000
# make test    what a contributor runs (<= 10 minutes on two cores)
# make check   format, lint, types
# make test-all, make test-gpu    everything; what needs a CUDA device
# make bench   speed, as fractions of this machine's own ceilings

PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := src tests scripts one_file_ref.py

.PHONY: demo serve test test-all test-gpu clients check format bench clean

demo: $(VENV)/installed
	@$(BIN)/python -m mistral_local.cli.showcase

serve: $(VENV)/installed
	@$(PIP) install -c constraints.txt -e ".[server]"
	@$(BIN)/mistral-serve

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not long and not gpu"

test-all: $(VENV)/installed-dev clients
	$(BIN)/python -m pytest -m "not gpu"

# An environment for each published client; what is built stays.
clients: $(VENV)/installed-dev
	@$(BIN)/python scripts/client_environments.py $(VENV)/clients

# On the machine's own Python and torch, offline.
test-gpu:
	PYTHONPATH=src $(PYTHON) -m pytest -m gpu

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(VENV)/installed
	$(BIN)/mistral-bench

clean:
	rm -rf $(VENV) build dist src/*.egg-info

# torch goes first, in a step of its own: without a GPU as the CPU build, which spares gigabytes of CUDA packages.
$(VENV)/torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	@version=$$(sed -n 's/^torch==//p' constraints.txt); \
	if command -v nvidia-smi > /dev/null; then \
	  echo "Installing torch $$version"; $(PIP) install torch==$$version; \
	elif [ "$$(uname -s)" = Darwin ]; then \
	  echo "Installing torch $$version"; $(PIP) install torch==$$version; \
	else \
	  echo "Installing torch $$version for the CPU"; \
	  $(PIP) install torch==$$version+cpu 2> /dev/null || $(PIP) install torch==$$version+cpu --index-url $(TORCH_INDEX); \
	fi
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	@echo "Installing mistral_local"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing what the tests need"
	@$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

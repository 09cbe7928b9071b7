# make quickstart   on-policy distillation with every selector on toy models, with a report
# make test         the whole test-suite       make lint   ruff        make bench   speed and memory of the library
#
# Everything runs in .venv, made on first use. To use an environment of your own: make test PY=python

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
ifeq ($(origin PY), undefined)
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
endif

OUT ?= out/quickstart
QUICKSTART_ARGS = --out "$(OUT)" \
	$(if $(PROMPTS),--prompts "$(PROMPTS)") \
	$(if $(METHODS),--methods "$(METHODS)") \
	$(if $(SEEDS),--seeds "$(SEEDS)") \
	$(if $(STEPS),--steps "$(STEPS)") \
	$(ARGS)

.PHONY: quickstart test lint bench install clean

quickstart: $(INSTALLED)
	@"$(PY)" -m local_engine $(QUICKSTART_ARGS)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 "$(PY)" -m pytest -q $(ARGS)

lint: $(INSTALLED)
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .

bench: $(INSTALLED)
	OMP_NUM_THREADS=1 "$(PY)" benchmarks/selection.py $(ARGS)

install: $(INSTALLED)

# torch comes first and alone: its pinned version then satisfies whatever else asks for torch.
$(VENV)/.installed: pyproject.toml
	"$(PYTHON)" -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@"

clean:
	rm -rf "$(VENV)" .pytest_cache .ruff_cache .hypothesis

# make quickstart   on-policy distillation with every selector on toy models, with a report
# make test         the whole test-suite       make lint   ruff, shellcheck, hadolint
# make bench        speed and memory of the library
# make bench-losses the losses of whole distributions beside eager, compiled and published forms
# make test-sglang  teacher client, doctor and scoring against real SGLang servers on the CPU, each in .venv-sglang-VERSION
# make test-slime   the patch inside slime checkouts: SLIME_DIR=... (or SLIME_DIRS=A:B) and MEGATRON_DIR=...
#
# Everything runs in .venv, made on first use. To use an environment of your own: make test PY=python

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
ifeq ($(origin PY), undefined)
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
endif

# Where the linters that are no Python modules lie: in the environment's bin, else on the PATH.
BESIDE := $(if $(findstring /,$(PY)),$(dir $(PY)))

# The oldest SGLang supported and the newest, which has compact forms of log-probs.
# With servers of your own: make test-sglang SGLANG_PYTHON=their/bin/python
SGLANG_VERSIONS ?= 0.5.15.post1 0.5.23
ifeq ($(strip $(SGLANG_PYTHON)),)
empty :=
SGLANG_VENVS := $(SGLANG_VERSIONS:%=.venv-sglang-%)
SGLANG_INSTALLED := $(SGLANG_VENVS:%=%/.installed)
SGLANG_PYTHON := $(subst $(empty) $(empty),:,$(SGLANG_VENVS:%=%/bin/python))
endif
SGLANG_TESTS := tests/stack/test_real_sglang.py tests/stack/test_doctor_sglang.py tests/stack/test_fixed_context_sglang.py

# What slime needs on a CPU. With an environment of your own: make test-slime SLIME_PYTHON=its/bin/python
ifeq ($(strip $(SLIME_PYTHON)),)
SLIME_PYTHON := .venv-slime/bin/python
SLIME_INSTALLED := .venv-slime/.installed
endif
SLIME_RESULTS ?= out/slime/results.jsonl

OUT ?= out/quickstart
QUICKSTART_ARGS = --out "$(OUT)" \
	$(if $(PROMPTS),--prompts "$(PROMPTS)") \
	$(if $(METHODS),--methods "$(METHODS)") \
	$(if $(SEEDS),--seeds "$(SEEDS)") \
	$(if $(STEPS),--steps "$(STEPS)") \
	$(ARGS)

.PHONY: quickstart test test-sglang test-slime lint bench bench-losses install clean

quickstart: $(INSTALLED)
	@"$(PY)" -m local_engine $(QUICKSTART_ARGS)

# Files side by side; WORKERS=0 for one process.
WORKERS ?= 2
test: $(INSTALLED)
	OMP_NUM_THREADS=1 "$(PY)" -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

test-sglang: $(INSTALLED) $(SGLANG_INSTALLED)
	SGLANG_PYTHON="$(SGLANG_PYTHON)" OMP_NUM_THREADS=1 "$(PY)" -m pytest -q $(SGLANG_TESTS) $(ARGS)

test-slime: $(INSTALLED) $(SLIME_INSTALLED)
	@[ -n "$(SLIME_DIR)$(SLIME_DIRS)" ] || { echo "make test-slime needs SLIME_DIR=... or SLIME_DIRS=A:B" >&2; exit 2; }
	rm -f "$(SLIME_RESULTS)"
	SLIME_PYTHON="$(SLIME_PYTHON)" SLIME_RESULTS="$(SLIME_RESULTS)" OMP_NUM_THREADS=1 \
		"$(PY)" -m pytest -q tests/stack/slime tests/stack/launch $(ARGS)
	@"$(PY)" -m tests.stack.slime.table "$(SLIME_RESULTS)"

lint: $(INSTALLED)
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .
	"$(BESIDE)shellcheck" -x .ci/run $(shell find launch tests diagnostics -name '*.sh' | sort)
	"$(BESIDE)shellcheck" --shell=bash --exclude=SC2034 configs/pairs/*.sh
	"$(BESIDE)hadolint" Dockerfile

bench: $(INSTALLED)
	OMP_NUM_THREADS=1 "$(PY)" benchmarks/selection.py $(ARGS)

bench-losses: $(INSTALLED)
	OMP_NUM_THREADS=1 "$(PY)" benchmarks/losses.py $(ARGS)

install: $(INSTALLED)

# torch comes first and alone: its pinned version then satisfies whatever else asks for torch.
$(VENV)/.installed: pyproject.toml
	"$(PYTHON)" -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@"

.venv-sglang-%/.installed: tests/stack/sglang/install.sh tests/stack/sglang/requirements.py
	tests/stack/sglang/install.sh "$*" "$(@D)" "$(PYTHON)"
	@touch "$@"

.venv-slime/.installed: tests/stack/slime/install.sh tests/stack/sglang/install.sh tests/stack/sglang/requirements.py
	tests/stack/slime/install.sh "$(@D)" "$(PYTHON)"
	@touch "$@"

clean:
	rm -rf "$(VENV)" .venv-sglang-* .venv-slime .pytest_cache .ruff_cache .hypothesis

# make demo | test | lint | bench ...          make PYTHON=python3.12 VENV=.venv312 test
VENV ?= .venv
DEMO_FLAGS ?= --dataset=python_docs --workdir=runs/demo
BENCH_FLAGS ?=
PYTEST_FLAGS ?= -n 2 -q

# PYTHON is the first that runs and is new enough, unless it is given.
python_version = $(shell $(1) -c 'import sys; sys.version_info >= (3, 11) and print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PYTHON := $(or $(PYTHON),$(firstword $(foreach python,python3.11 python3.12 python3,$(if $(call python_version,$(python)),$(python)))))
PYTHON_VERSION := $(if $(PYTHON),$(call python_version,$(PYTHON)))
ifeq ($(PYTHON_VERSION),)
  $(error rnnlab needs Python 3.11 or newer: $(if $(PYTHON),$(PYTHON) does not run or is older,none of python3.11 python3.12 python3 is). Name one: make PYTHON=/path/to/python3.11)
endif

BIN := $(VENV)/bin
CONSTRAINTS := $(wildcard constraints/py$(subst .,,$(PYTHON_VERSION)).txt)
INSTALL = $(BIN)/python -m pip install -q $(addprefix -c ,$(CONSTRAINTS))

.PHONY: help demo test test-quick test-all reliability lint native bench constraints clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed-demo ## train a small language model, print its score and a sample
	$(BIN)/python -m experiments.language_model $(DEMO_FLAGS)

# Compiling is most of a test's time, and the everyday runs do without optimisations: a third of the time. test-all has
# them all. The second flag is of jax 0.10, the last for Python 3.11; a later jax does not know it.
EVERYDAY = JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1 XLA_FLAGS="--xla_backend_optimization_level=0 \
  $(if $(filter 3.11,$(PYTHON_VERSION)),--xla_cpu_use_fusion_emitters=false) $(XLA_FLAGS)"

test: $(VENV)/.installed-test ## the suite, about fourteen minutes on two cores
	$(EVERYDAY) $(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not full"

test-quick: $(VENV)/.installed-test ## the suite's quick part
	$(EVERYDAY) $(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not full and not slow"

test-all: $(VENV)/.installed-test ## everything, the whole products included
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest $(PYTEST_FLAGS)

reliability: $(VENV)/.installed-test ## inject every fault in full, write docs/reliability.md
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest $(PYTEST_FLAGS) --dist=worksteal -m promise --reliability_table=docs/reliability.md

lint: $(VENV)/.installed-test ## ruff, import order of the layers, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright --pythonpath $(BIN)/python

native: $(VENV)/.installed-demo ## compile the CPU kernel (needs a C++ compiler); optional
	$(BIN)/python -m rnnlab.kernels.build

bench: $(VENV)/.installed-demo ## when to scan, when to unroll
	$(BIN)/python -m benchmarks.scan_vs_unrolled $(BENCH_FLAGS)

# An environment holds one Python: another one builds it anew. --clear only ever empties an environment.
# pip learned --group in 25.1.
$(VENV)/.python$(PYTHON_VERSION):
	@$(BIN)/python$(PYTHON_VERSION) -m pip --version >/dev/null 2>&1 || \
	  $(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV)
	$(INSTALL) 'pip>=25.1'
	@touch $@

PACKAGES_demo = -e '.[plot]'
PACKAGES_test = -e '.[data,text,plot,tensorboard,export,sweep]' --group dev --group oracle

$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) $(VENV)/.python$(PYTHON_VERSION)
	@echo "installing into $(VENV): some minutes the first time"
	$(INSTALL) $(PACKAGES_$*)
	@touch $@

# Resolves the newest versions in an environment of its own and writes them down, without local suffixes (+cpu).
PINS := .venv-pins$(PYTHON_VERSION)
constraints: ## write constraints/ again for PYTHON, with the newest versions
	$(PYTHON) -m venv --clear $(PINS)
	$(PINS)/bin/python -m pip install -q -U pip
	$(PINS)/bin/python -m pip install -q -e '.[data,text,metrics,plot,tensorboard,export,sweep]' --group dev --group oracle
	echo '# Python $(PYTHON_VERSION), Linux x86-64. Written by: make PYTHON=python$(PYTHON_VERSION) constraints' > $(PINS)/pins.txt
	$(PINS)/bin/python -m pip freeze --all --exclude-editable --exclude setuptools --exclude wheel >> $(PINS)/pins.txt
	sed -E 's/\+.*//' $(PINS)/pins.txt > constraints/py$(subst .,,$(PYTHON_VERSION)).txt
	rm -rf $(PINS)

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

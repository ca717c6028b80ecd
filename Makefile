# Everything a contributor types. `make` alone lists the targets.
# They need Python >= 3.11, make and a package index; nothing else. Another Python: make setup PYTHON=python3.12
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
PACKAGE := .venv/.package
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile  # Python compiles what is imported
# Two workers with one thread each: more threads on small matrices only wait for each other. A worker begins with a half
# of the tests in their order, so that what the tests of a file share is made once.
TEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --dist worksteal

# What is imported is compiled once, not by each of the many processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-whole test-all lint docs doctest bench figures weights

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 12

setup: $(INSTALLED)  ## Create .venv and install the package with its development tools, once

$(PACKAGE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rectilinear needs Python 3.11 or newer: make setup PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt -e .
	@touch $@

$(INSTALLED): $(PACKAGE)
	$(PIP) 'pip>=25.1'  # the first that knows dependency groups
	$(PIP) -c constraints.txt --group dev -e '.[adapters,docs,fast,hf,tables]'
	@touch $@

demo: $(PACKAGE)  ## Train on digits, sample in one step, write report.html and explorer.html in runs/demo (minutes on two cores)
	$(BIN)/rectilinear demo --out runs/demo

test: setup  ## The tests that every change must pass
	$(TEST) -m "not slow and not whole" tests

test-whole: setup  ## The tests of whole commands and trainings, which CI runs, too
	$(TEST) -m "whole and not slow" tests

test-all: setup  ## All of them, the slow ones, too
	$(TEST) tests

lint: setup  ## ruff, its formatter, and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

doctest: setup  ## Run every example in the docstrings, the pages and the README
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --doctest-modules --doctest-glob='*.md' --ignore=docs/_build \
	  --ignore=docs/conf.py src docs README.md

docs: setup  ## Build the documentation, docs/_build/html/index.html; a warning is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

weights: setup  ## Train the generators that come with the package, DATA=FOLDER of MNIST and Fashion-MNIST, and write their cards
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/weights.py --data-dir $(or $(DATA),data)

bench: setup  ## Every benchmark; each prints a table beside its peers
	for file in benchmarks/[a-z]*.py; do echo "== $$file" && $(BIN)/python $$file || exit 1; done

figures: setup  ## Every figure of every paper at full size, into runs/
	for file in src/rectilinear/papers/*/[a-z]*.py; do \
	  paper=$$(basename $$(dirname $$file)) && figure=$$(basename $$file .py) && echo "== $$paper $$figure" && \
	  $(BIN)/rectilinear reproduce $$paper $$figure --preset full --out runs/figures || exit 1; done

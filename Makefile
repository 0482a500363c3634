# `make run` trains a network on handwritten digits; `make test` runs every check. Both set up what they need once.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test lint types tests shapes format figures notebooks docs benchmarks clean

help:
	@echo "make run         train a network on handwritten digits, by hand-derived backpropagation"
	@echo "make test        every check: lint, types, the tests, the tests with shapes checked at run time"
	@echo "make figures     run every experiment, renew the figures that the README shows, and report"
	@echo "make notebooks   run the notebooks, and renew what they show"
	@echo "make docs        render the reference of all functions into out/docs, and renew docs/equations.md"
	@echo "make benchmarks  measure against other libraries, and renew docs/benchmarks.md"
	@echo "make format      lay the code out"
	@echo "make clean       remove what the others made"
	@echo "PYTHON=python3.13 VENV=.venv-3.13 choose another Python and where its packages go"

run: $(READY)
	$(BIN)/python -m experiments.digits

test: lint types tests shapes

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

tests: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m "$(TESTS)"

shapes: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m "not bad_input and not notebooks" --jaxtyping-packages=jnn,beartype.beartype

figures: $(READY)
	$(BIN)/python -m experiments all report
	mkdir -p figures
	for figure in out/*/figure.png; do cp $$figure figures/$$(basename $$(dirname $$figure)).png; done

notebooks: $(READY)
	$(BIN)/python -m notebooks.renew

docs: $(READY)
	$(BIN)/python -m docs.equations
	$(BIN)/pdoc -d markdown -t docs/pdoc -o out/docs jnn

benchmarks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,peers]'
	$(BIN)/python -m benchmarks
	cp out/benchmarks/tables.md docs/benchmarks.md

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m docs.equations

clean:
	rm -rf .venv* out build dist .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("jnn needs Python 3.11 or newer, $(PYTHON) is %d.%d: try make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

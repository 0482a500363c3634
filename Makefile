# `make run` trains networks on handwritten digits; `make test` runs lint, types and the tests. Both set up what they
# need once.

PYTHON ?= python3
VENV ?= .venv
# A second Python for `make test-all`, if there is one.
OTHER_PYTHON ?= $(shell for p in $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13*/bin/python python3.13; do \
	"$$p" --version >/dev/null 2>&1 && echo "$$p" && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test test-all lint types tests slow wheel other-environment other-python compiled format figures notebooks docs benchmarks clean

help:
	@echo "make run         train networks on handwritten digits, by hand-derived backpropagation"
	@echo "make test        lint, types and the tests"
	@echo "make test-all    everything: also what takes long, the wheel, and a second Python"
	@echo "make compiled    compile training programs for a TPU and a GPU that are not there; installs 400 MB, Linux only"
	@echo "make figures     run every experiment, renew the figures that the README shows, and report"
	@echo "make notebooks   run the notebooks and renew their outputs"
	@echo "make docs        make a site of pages, notebooks and the reference in out/docs, and renew docs/equations.md"
	@echo "make benchmarks  measure against other libraries, and renew its page in docs/benchmarks"
	@echo "make format      format the code"
	@echo "make clean       remove generated files"
	@echo "PYTHON=python3.13 VENV=.venv-3.13 choose another Python and where its packages go"

run: $(READY)
	$(BIN)/python -m experiments digits

test: $(READY)
	@set -e; took=; for part in lint types tests; do \
		start=$$(date +%s); $(MAKE) --no-print-directory $$part; took="$$took $$part $$(($$(date +%s) - start)) s,"; \
	done; echo "took:$${took%,}"

test-all:
	$(MAKE) --jobs=3 --output-sync=target test wheel other-environment
	$(MAKE) slow
	$(MAKE) other-python

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

tests: $(READY)
	$(BIN)/pytest

# What plain pytest leaves out. A second Python, if there is one, lowers the experiments.
slow: $(READY)
	$(BIN)/pytest -m "slow$(if $(OTHER_PYTHON), and not lowering)"

# The wheel in an empty environment, with its own dependencies alone: every module and the embedded digits.
wheel: $(READY)
	rm -rf out/wheel && mkdir -p out/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir out/wheel . >/dev/null
	$(PYTHON) -m venv out/wheel/venv
	out/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check out/wheel/jnn-*.whl
	cd out/wheel && venv/bin/python -c "import importlib.metadata as m, jnn; files = {str(f) for f in m.files('jnn')}; \
	assert {'jnn/py.typed', 'jnn/pictures/reader.safetensors'} <= files and any(f.endswith('licenses/LICENSE') for f in files), files; \
	print('jnn', jnn.__version__, 'from its wheel reads', len(jnn.data.digits().train.xs), 'digits')"

# Another Python: there each experiment runs once, to be lowered.
other-environment other-python:
ifeq ($(OTHER_PYTHON),)
	@echo "no second Python: set OTHER_PYTHON"
else
	$(MAKE) .venv-other/.ready PYTHON=$(OTHER_PYTHON) VENV=.venv-other
	$(if $(filter other-python,$@),.venv-other/bin/pytest -m "not slow or lowering" --deselect=tests/experiments/test_all.py::test_quick)
endif

# The portable programs, compiled for a TPU and a GPU that are not there.
compiled: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,accelerators]'
	$(BIN)/pytest -m slow tests/test_compiled.py

figures: $(READY)
	$(BIN)/python -m experiments all report
	$(BIN)/python -m experiments read
	mkdir -p figures
	for figure in out/*/figure.png; do cp $$figure figures/$$(basename $$(dirname $$figure)).png; done

notebooks: $(READY)
	$(BIN)/python -m notebooks.renew

docs: $(READY)
	$(BIN)/python -m docs.equations
	$(BIN)/sphinx-build --quiet --fail-on-warning -c docs -d out/doctrees . out/docs
	@echo "open out/docs/index.html"

benchmarks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,peers]'
	$(BIN)/python -m benchmarks
	cp out/benchmarks/*-cores.md docs/benchmarks/

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

# The environment is one stamp file: it is made anew when what it is made from changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint notebooks bench clean
.DEFAULT_GOAL := demo

.venv/.harness: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the harness needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.test: .venv/.harness
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: .venv/.harness  ## run the quickstart study and report on it
	$(BIN)/harness run experiments/quickstart.yaml

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## run the whole suite
	$(BIN)/python -m pytest --numprocesses 2

notebooks: .venv/.test  ## run the notebooks anew, in place; the tour reads the demo's runs
	cd notebooks && PYTHONWARNINGS='ignore:IProgress not found' ../$(BIN)/python -m nbconvert --log-level=WARN --KernelManager.transport=ipc --to notebook --execute --inplace *.ipynb

bench: .venv/.test  ## measure the harness itself and against what else one would take; hours, on an idle machine
	$(BIN)/python -m tests.benchmarks results/benchmarks

clean:  ## remove the environment and the tools' caches; the tracking store and the results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache

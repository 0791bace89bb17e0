# install     a virtual environment in .venv with the pinned versions of constraints.txt
# quickstart  install, then a whole search on a task made by the project itself (no download, no GPU)
# unit        the tests of parts alone
# test        every test but those marked slow and gpu
# slow        the slow ones: more variants, a soak of thirty kills
# docs        the documentation as a site in docs/_build/html, without the network; a warning is an error
# lint        ruff, mypy and the check of English in tests/english.py; .pre-commit-config.yaml runs the same
#
# pip's own variables work: on Linux without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# saves the download of torch's CUDA libraries. PYTHON=... chooses the interpreter.

SHELL := /bin/bash
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install quickstart unit test slow docs lint

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "raydisc needs Python 3.11 or newer; name one: make install PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the versions of constraints.txt into .venv: a few minutes, once" >&2
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,dev,docs]'
	@touch $(STAMP)

quickstart: install
	$(BIN)/raydisc run experiments/quickstart.yaml

unit: install
	$(BIN)/python -m pytest tests/unit -m 'not integration and not slow and not gpu' -n auto --dist loadfile

test: install
	$(BIN)/python -m pytest tests/unit -m 'not slow and not gpu' -n auto --dist loadfile
	$(BIN)/python -m pytest tests/cluster -m 'not slow and not gpu' -n 2 --dist loadfile

slow: install
	$(BIN)/python -m pytest tests/unit -m 'slow and not gpu' -n auto --dist loadfile
	$(BIN)/python -m pytest tests/cluster -m 'slow and not gpu'

docs: install
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

lint: install
	$(BIN)/ruff check raydisc tests experiments clusters docs
	$(BIN)/ruff format --check raydisc tests experiments clusters docs
	$(BIN)/mypy
	$(BIN)/mypy experiments/benchmarks
	$(BIN)/mypy clusters/local.py
	$(BIN)/python tests/english.py

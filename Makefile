# Everything runs in .venv, which the first target to need it makes.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
python := .venv/bin/python

.PHONY: demo test check format wheel

demo: .venv/installed
	$(python) examples/demo.py docs/demo.png

test: .venv/installed
	$(python) -m pytest

check: .venv/installed
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(python) -m pytest

format: .venv/installed
	$(python) -m ruff format .
	$(python) -m ruff check --fix .

wheel: .venv/installed
	$(python) -m build --no-isolation

.venv/bin/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }  # Debian's own needs python3-venv

.venv/installed: pyproject.toml constraints-cpu.txt tools/torchvision_cpu.py | .venv/bin/python
	$(python) -m pip install --constraint constraints-cpu.txt --editable ".[dev]"
	$(python) tools/torchvision_cpu.py
	touch $@

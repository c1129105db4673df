# Each target sets up .venv by itself when it is missing, and reuses it afterwards.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint docs bench-project clean

demo: .venv/ready
	$(BIN)/zwicky demo --out demo

test: .venv/ready  # a process a core, each with one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-project: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt swiftsimio meshoid
	$(BIN)/python benchmarks/projection.py

docs: .venv/docs
	$(BIN)/mkdocs build --strict

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv demo site

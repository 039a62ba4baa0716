# `make demo` and `make test` do all the set-up they need, in a virtual environment of their own.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo test soak lint bench setup clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(PY) launch.py --config=configs/demo.py --mode=prepare,train,evaluate,generate --workdir=demo

test: setup
	$(PY) -m pytest -n 2 --dist=loadfile -m 'not soak'

soak: setup
	$(PY) -m pytest -m soak

lint: setup
	$(PY) -m ruff check .

bench: setup
	$(PY) -m benchmarks.train_step

clean:
	rm -rf .venv demo

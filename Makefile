# `make demo` and `make test` do all the set-up they need, in a virtual environment of their own.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo test soak lint bench bench-full setup clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(PY) launch.py --config=configs/demo.py --mode=prepare,train,evaluate,generate --workdir=demo --blink_rate=20

test: setup
	$(PY) -m pytest -n 2 --dist=loadfile --no-loadscope-reorder -m 'not soak'

soak: setup
	$(PY) -m pytest -m soak

lint: setup
	$(PY) -m ruff check .

# PyTorch, which the ops are timed against, stays out of the program's own environment.
BENCH := .venv-bench/bin/python

.venv-bench/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH) -m pip install --quiet --upgrade pip
	$(BENCH) -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

bench: .venv-bench/.installed
	$(BENCH) -m benchmarks.train_step
	$(BENCH) -m benchmarks.rasterizer
	taskset -c 0 $(BENCH) -m benchmarks.rasterizer
	$(BENCH) -m benchmarks.flow_warp

# The generator at 256 px, compiled and run.
bench-full: setup
	$(PY) -m benchmarks.full_size
	$(PY) -m benchmarks.full_size --program=step --perceptual=10
	$(PY) -m benchmarks.full_size --program=step --references=8 --remat=light,full
	$(PY) -m benchmarks.full_size --program=step --references=8 --dtype=bfloat16 --remat=,full

clean:
	rm -rf .venv .venv-bench demo

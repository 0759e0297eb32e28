# On a fresh machine: `make demo` shows what AToken does, `make test` checks all of it, `make eval` measures nano.
PYTHON ?= python3
BIN := .venv/bin
# Linux without an NVIDIA driver takes the CPU build of torch, a tenth of the other's size.
TORCH := $(shell test "$$(uname)" = Linux && ! command -v nvidia-smi > /dev/null \
	&& echo --extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: demo test check lint types fast eval fuzz kill clean

demo: .venv/demo
	$(BIN)/atoken demo --out demo

# Two processes of one thread each: on two cores faster than one process of two threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test: lint types
	$(PYTEST)

# All that takes a moment only, the types meanwhile.
check: lint
	$(MAKE) --no-print-directory --jobs 2 --output-sync types fast

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: .venv/dev
	$(BIN)/mypy

fast: .venv/dev
	$(PYTEST) -m "not slow"

eval: .venv/eval data/eval/manifest.json
	$(BIN)/atoken eval nano nano-discrete --protocol paper-image --data data/eval --out eval \
		--metrics psnr,ssim,lite0-frechet,lite0-distance \
		--against jpeg,webp,avif --rates 0.5,1,2,4 --linear recipes/nano/linear.safetensors --overwrite

data/eval/manifest.json: recipes/nano/sources.py | .venv/eval
	$(BIN)/python recipes/nano/data.py --only-eval

.venv/torch: constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --retries 1 --constraint constraints.txt $(TORCH) torch
	touch $@

.venv/demo: .venv/torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[video,text]'
	touch $@

.venv/eval: .venv/torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[eval]'
	touch $@

.venv/dev: .venv/torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Damaged files of every kind into every reader; FULL=1 goes on until all counts are reached. MINUTES bounds the rest.
fuzz: .venv/dev
	$(BIN)/python tests/fuzz/fuzz.py $(if $(FULL),--full,--minutes $(or $(MINUTES),5))

# Commands interrupted while they write, and run again; KILLS of each.
kill: .venv/dev
	$(BIN)/python tests/fuzz/kill.py --kills $(or $(KILLS),25) --minutes $(or $(MINUTES),5)

clean:
	rm -rf .venv demo eval

# On a fresh machine: `make demo` shows what AToken does, `make test` checks all of it, `make eval` measures nano.
PYTHON ?= python3
BIN := .venv/bin
# Linux without an NVIDIA driver takes the CPU build of torch, a tenth of the other's size.
TORCH := $(shell test "$$(uname)" = Linux && ! command -v nvidia-smi > /dev/null \
	&& echo --extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: demo test eval clean

demo: .venv/demo
	$(BIN)/atoken demo --out demo

test: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest

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

clean:
	rm -rf .venv demo eval

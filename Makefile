# lamina: every task a person needs. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# Everything the extension is built from.
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml | grep -v /target/) Cargo.toml Cargo.lock

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python check bench bench-peers format docs wheel clean

help: ## list the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "maturin>=1.8,<2"

$(STAMP)-extension: $(BIN)/python $(RUST) pyproject.toml
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/maturin develop --release --quiet --extras demo
	touch $@

$(STAMP)-test: $(STAMP)-extension
	$(BIN)/python -m pip install --quiet "pytest>=8" "hypothesis>=6" "keras>=3.10" "jax>=0.4.30"
	touch $@

$(STAMP)-dev: $(STAMP)-test
	$(BIN)/python -m pip install --quiet "ruff>=0.9"
	touch $@

demo: $(STAMP)-extension ## set up, then train and predict on real handwritten digits
	$(BIN)/lamina demo

test: test-rust test-python ## set up, then run every test

test-rust:
	cargo test --workspace --quiet

test-python: $(STAMP)-test
	$(BIN)/python -m pytest

check: $(STAMP)-dev ## format, lints, stubs, docs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	$(BIN)/ruff format --check python tests benches
	$(BIN)/ruff check python tests benches
	$(BIN)/python tests/check_stubs.py

format: $(STAMP)-dev ## format Rust and Python
	cargo fmt --all
	$(BIN)/ruff format python tests benches
	$(BIN)/ruff check --fix python tests benches

bench: $(STAMP)-extension ## kernels beside their rivals, then models
	cargo bench --package lamina-bench-kernels
	$(BIN)/python benches/models/bench.py

PEERS := benches/.venv-peers
$(PEERS)/.stamp: benches/peers/requirements.txt $(RUST) pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip "maturin>=1.8,<2"
	$(PEERS)/bin/python -m pip install --quiet -r benches/peers/requirements.txt
	$(PEERS)/bin/python -m pip install --quiet torch || echo "PyTorch does not install here: it is left out"
	VIRTUAL_ENV=$(CURDIR)/$(PEERS) PATH="$(CURDIR)/$(PEERS)/bin:$$PATH" $(PEERS)/bin/maturin develop --release --quiet
	touch $@

bench-peers: $(PEERS)/.stamp ## lamina beside TensorFlow, JAX, ONNX Runtime, OpenVINO, LiteRT and PyTorch
	$(PEERS)/bin/python benches/peers/run.py

docs: ## the crates' documentation
	cargo doc --workspace --no-deps --open

wheel: $(BIN)/python ## build the wheel into dist/
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin build --release --out dist

clean: ## remove everything built
	cargo clean
	rm -rf $(VENV) dist python/lamina/_core*.so

# What one does with Argosy. Each target does one thing; `make up` is all that a first visit needs.

ARGOSY_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR = $(ARGOSY_TARGET_DIR)

# Static, so that the binary is its own container image.
comma   := ,
TRIPLE  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
ARGOSY  := $(CARGO_TARGET_DIR)/$(TRIPLE)/release/argosy
# lld, which rustc links with on this target, folds functions that were compiled to the same code, and packs the addresses
# that the program relocates at its start (libc does so since glibc 2.36).
LINK    := $(if $(filter x86_64-unknown-linux-gnu,$(TRIPLE)),-C link-arg=-Wl$(comma)--icf=all$(comma)--pack-dyn-relocs=relr)
DATA_DIR ?= /var/lib/argosy
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DEMO    ?= 1
FUZZ_S  ?= 60

.PHONY: help setup setup-tests build up down demo test test-e2e lint bench bench-api fuzz

help:
	@echo "make setup   install what is missing on this machine"
	@echo "make build   build the binary, $(ARGOSY)"
	@echo "make up      build it, start a cluster in $(DATA_DIR), run the demo (DEMO=0: without)"
	@echo "make demo    run examples/hello.yaml on the cluster and show its answer"
	@echo "make down    stop the cluster (its data stays)"
	@echo "make test    every test; make test-e2e: only those of whole clusters on this machine"
	@echo "make lint    formatting and clippy"
	@echo "make bench   the numbers of docs/specification.md"
	@echo "make bench-api KUBECONFIG=FILE [FLAGS='--against FILE']   load API servers in turns (docs/benchmarks.md)"
	@echo "make fuzz    each decoder's fuzz target for FUZZ_S seconds ($(FUZZ_S)); needs cargo-fuzz"

setup:
	scripts/setup.sh

setup-tests:
	scripts/setup.sh --tests

# A target triple of its own keeps the static flag away from build scripts and procedural macros.
build: setup
	RUSTFLAGS="-C target-feature=+crt-static" \
	  cargo rustc --release --locked --target $(TRIPLE) -p argosy --bin argosy -- $(LINK)

up: build
	$(SUDO) $(ARGOSY) up --data-dir $(DATA_DIR)
	@[ "$(DEMO)" = 0 ] || $(MAKE) --no-print-directory demo

down:
	$(SUDO) $(ARGOSY) down --data-dir $(DATA_DIR)

demo:
	$(SUDO) scripts/demo.sh $(DATA_DIR) $(ARGOSY)

# The end-to-end tests start whole clusters on this machine and need root; the others do not.
test: setup-tests
	cargo test --workspace --locked
	$(MAKE) --no-print-directory test-e2e

# Faults come last and alone: how fast a cluster of three masters recovers says nothing while four others are started.
test-e2e: setup-tests
	$(if $(SUDO),sudo -E) env "PATH=$$PATH" cargo test --locked -p argosy --test it -- --skip faults::
	$(if $(SUDO),sudo -E) env "PATH=$$PATH" cargo test --locked -p argosy --test it -- faults:: --nocapture

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: build
	$(SUDO) scripts/bench.sh $(ARGOSY)

bench-api: build
	$(SUDO) scripts/bench-api.sh $(ARGOSY) $(or $(KUBECONFIG),$(DATA_DIR)/admin.kubeconfig) $(FLAGS)

# Sanitizers need a nightly toolchain; without them a crash or a hang is found just as well.
fuzz:
	@cargo run --quiet --manifest-path fuzz/Cargo.toml --example seeds
	@for target in $$(cargo fuzz list); do \
	  cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_S) -max_len=65536 -timeout=10 || exit 1; \
	done

# The commands of the project. CMake does the building; this only says what to do in which order.
# `make help` lists them.

BUILD ?= build
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build run test unit sanitize tsan bench fuzz dist format check clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what is missing (Debian packages), build the engine once
	@tools/setup.sh run
	@engine/build.sh > /dev/null

build: setup ## build/0asm and the sample program
	@tools/build.sh $(BUILD)

run: build ## start the server on 127.0.0.1:8080, its state in ./state
	@tools/run.sh $(BUILD)

test: ## build and run every test
	@tools/setup.sh test
	@tools/test.sh $(BUILD)

unit: build ## the C tests only
	@ctest --test-dir $(BUILD) --output-on-failure -j2

sanitize: ## every test with the address and undefined behaviour sanitizers
	@tools/setup.sh test
	@SANITIZE=1 tools/test.sh build-sanitize

tsan: ## the tests in which threads meet, with the thread sanitizer
	@tools/setup.sh test
	@tools/tsan.sh build-tsan

bench: build ## measure against nginx and wasmtime, side by side
	@tools/setup.sh bench
	@PATH="$$PATH:/usr/sbin" python3 bench/bench.py --build $(BUILD)

fuzz: ## run each fuzzer for FUZZ_SECONDS (default 60)
	@tools/setup.sh test
	@tools/fuzz.sh

dist: setup ## a tarball that runs on a Debian 12 without a toolchain
	@tools/dist.sh build-dist

format: ## format the C sources
	@find src bench fuzz examples tests -name '*.[ch]' | xargs clang-format -i

check: ## format, layers and words, without building
	@tools/check.sh

clean: ## remove what was built (the engine's cache stays)
	@rm -rf build build-sanitize build-tsan build-fuzz build-dist

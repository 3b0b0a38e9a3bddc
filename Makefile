# Everything that a contributor or continuous integration runs. `make help` lists it.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

export PATH := $(CURDIR)/.tools/bin:$(PATH)

GO ?= go
# Time per fuzz target in `make fuzz`, and in the smoke that is part of `make test`.
FUZZTIME ?= 30s
FUZZSMOKE ?= 3s
# Packages whose tests need what `make tools` installs.
E2E := ./test/harness ./test/conformance ./test/e2e ./test/readme
# Modules besides the one of this directory.
MODULES := $(patsubst %/go.mod,%,$(wildcard bench/go.mod))

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name what; do printf '  %-16s %s\n' "$$name" "$$what"; done

.PHONY: test
test: tools lint check-generated fuzz-smoke test-unit test-e2e ## Install the tools, then run every check and every test.
	@echo 'make test: everything passed.'

.PHONY: tools
tools: ## Install the pinned tools into .tools/ (Envoy, buf, linters, an SDK).
	@tools/install.sh

.PHONY: build
build: ## Build bin/weir.
	$(GO) build -trimpath -o bin/weir ./cmd/weir

.PHONY: test-unit
test-unit: ## Unit tests of all modules, with the race detector, in random order.
	$(GO) test -race -shuffle=on -timeout 10m $$($(GO) list ./... | grep -vxF -f <($(GO) list $(E2E)))
	@for m in $(MODULES); do (cd $$m && set -x && $(GO) test -race -shuffle=on -timeout 5m ./...); done

.PHONY: test-e2e
test-e2e: tools ## Real Envoy, real SDK, real weir; and the commands of README.md.
	E2E_TOOLS=require $(GO) test -race -shuffle=on -timeout 10m -p 1 $(E2E)

.PHONY: conformance
conformance: ## What envoyproxy/ratelimit answers, asked of the real weir; a part of test-e2e.
	$(GO) test -race -count=1 -timeout 5m ./test/conformance

.PHONY: lint
lint: tools ## Linters, formatters, and go.mod in order.
	golangci-lint run
	buf lint
	buf format -d --exit-code
	tools/check-breaking.sh
	$(GO) vet ./...
	$(GO) mod tidy -diff
	@for m in $(MODULES); do (cd $$m && set -x && golangci-lint run && $(GO) vet ./... && $(GO) mod tidy -diff); done

.PHONY: generate
generate: tools ## Write the code that is generated from the protos.
	buf generate

.PHONY: check-generated
check-generated: tools ## Check that the generated code is what the protos say.
	tools/check-generated.sh

.PHONY: bench
bench: ## Benchmarks of all packages (see bench/README.md for the others).
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME.
	@tools/fuzz.sh $(FUZZTIME)

.PHONY: fuzz-smoke
fuzz-smoke: ## Fuzz every target for FUZZSMOKE.
	@tools/fuzz.sh $(FUZZSMOKE)

.PHONY: clean
clean: ## Remove what was built (not .tools/).
	rm -rf bin dist
	$(GO) clean -testcache

# cinder-csi: bare `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN     := $(CURDIR)/bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
LINT    := go tool -modfile=.ci/tools.mod golangci-lint
# More than two test binaries at once only make each other slow where they use
# loop devices and mkfs.
TESTFLAGS ?= -race -shuffle=on -p=2 -timeout=15m
# The development cloud makes device nodes; /tmp is often mounted nodev.
export TMPDIR ?= /var/tmp

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: demo-prerequisites build ## The main job on this machine: four volumes from birth to deletion (root)
	@$(BIN)/demo $(DEMOFLAGS)

.PHONY: test
test: prerequisites ## Everything that is proven in a few minutes: lint, unit tests, csi-sanity, the demo under fire, a guest (root)
	@.ci/stages lint unit sanity chaos test-guest

.PHONY: lint
lint: ## gofmt, go vet and golangci-lint
	$(LINT) run ./...
	$(LINT) fmt --diff

.PHONY: unit
unit: ## Unit tests with the race detector, on loop devices (root)
	go test $(TESTFLAGS) $$(go list ./... | grep -v -e /sanity$$ -e /internal/guest$$ -e /internal/bench$$)

.PHONY: sanity
sanity: ## The official csi-sanity suite against the driver, nothing faked (root)
	go test $(TESTFLAGS) -v ./sanity

.PHONY: chaos
chaos: build ## The demo while devcloud, the controller and the node plugins are killed (root)
	@$(BIN)/demo --chaos

.PHONY: test-guest
test-guest: ## The node's tests in a virtual machine with hot-plugged disks (root)
	go test -count=1 -timeout=20m -v ./internal/guest

.PHONY: bench
bench: ## What each operation costs in requests, time and memory, against its budget (4 minutes)
	@go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./internal/bench

.PHONY: build
build: ## Build the plugin, the development cloud and the demo into bin/
	@mkdir -p $(BIN)
	@echo "building into bin/"
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: fuzz
fuzz: ## Run every fuzz target for 30 s (FUZZTIME=)
	@go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | while read -r dir; do \
	  for target in $$(cat $$dir/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
	    echo "== $$target in $${dir#$(CURDIR)/}"; (cd $$dir && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-30s} .); \
	  done; done

.PHONY: fmt
fmt: ## Format the code
	$(LINT) fmt

.PHONY: prerequisites
prerequisites: ## Install what demo and test need, or say what to install
	@.ci/prerequisites

.PHONY: demo-prerequisites
demo-prerequisites:
	@.ci/prerequisites demo

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)

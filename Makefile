# cinder-csi: bare `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN     := $(CURDIR)/bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.revision=$(REVISION)
LINT    := go tool -modfile=.ci/tools.mod golangci-lint
# e2e/ and charts/dashboard/ are Go modules of their own.
LINT_E2E := go tool -modfile=../.ci/tools.mod golangci-lint
LINT_DASHBOARD := go tool -modfile=../../.ci/tools.mod golangci-lint
TESTFLAGS ?= -race -shuffle=on -timeout=30m
# The unit tests wait more than they work: for their clouds, for disks, for the kernel.
PARALLEL ?= -p=4 -parallel=8
# Which ends with what failed.
GOTEST  := go run .ci/gotest.go
# In a mount namespace of their own: another program that copies the machine's
# mounts, as every container's start does, would keep the disks of the tests and of the demo in use.
APART := unshare --mount --propagation private
# The development cloud makes device nodes; /tmp is often mounted nodev.
export TMPDIR ?= /var/tmp

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: demo-prerequisites build ## The main job on this machine: four volumes from birth to deletion (root)
	@$(APART) $(BIN)/demo $(DEMOFLAGS)

.PHONY: test
test: prerequisites ## Every test that takes minutes: unit tests, the chart, csi-sanity, deployers' manifests, the demo under fire, a guest (root)
	@.ci/stages unit chart sanity deployers chaos test-guest

.PHONY: lint
lint: ## gofmt, go vet, golangci-lint, and the storage suite's test driver files against its source
	$(LINT) run ./...
	$(LINT) fmt --diff
	cd e2e && $(LINT_E2E) run -c ../.golangci.yml ./...
	cd e2e && $(LINT_E2E) fmt -c ../.golangci.yml --diff
	cd charts/dashboard && $(LINT_DASHBOARD) run -c ../../.golangci.yml .
	cd charts/dashboard && $(LINT_DASHBOARD) fmt -c ../../.golangci.yml --diff *.go
	cd e2e && go run ./cmd/upstream check

.PHONY: unit
unit: ## Unit tests with the race detector, on loop devices (root)
	$(APART) $(GOTEST) $(TESTFLAGS) $(PARALLEL) $$(go list ./... | grep -v -e /sanity$$ -e /internal/guest$$ -e /internal/bench$$ -e /charts$$ -e /internal/deployers$$)

.PHONY: flakes
flakes: prerequisites ## Every unit test 200 times, alone and beside two busy loops (hours, root; COUNT=, PACKAGES=, RUN=)
	@.ci/flakes

.PHONY: chart
chart: ## The Helm chart: lint, schema, what it renders, and that its README and manifests/ are current
	$(GOTEST) -count=1 -timeout=30m ./charts

.PHONY: manifests
manifests: ## Make again what is made for or from the chart: its dashboard, its README, its golden files, manifests/
	go test -count=1 ./charts -run 'Golden|Explained|Current' -update

.PHONY: sanity
sanity: ## The official csi-sanity suite against the driver, nothing faked (root)
	$(APART) $(GOTEST) $(TESTFLAGS) -v ./sanity

.PHONY: deployers
deployers: ## The plugin as other projects' manifests and charts start it: arguments, environment, files, classes (root)
	$(GOTEST) $(TESTFLAGS) -count=1 -v ./internal/deployers

.PHONY: chaos
chaos: build ## The demo while devcloud, the controller and the node plugins are killed (root)
	@$(APART) $(BIN)/demo --chaos

.PHONY: test-guest
test-guest: ## The node's tests in a virtual machine with hot-plugged disks (root)
	$(GOTEST) -count=1 -timeout=20m -v ./internal/guest

.PHONY: bench
bench: ## What each operation costs in requests, time and memory, against its budget (5 minutes, root)
	@$(APART) go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./internal/bench ./internal/node

.PHONY: cluster-up
cluster-up: e2e-prerequisites ## A Kubernetes cluster of three nodes on this machine, with an OpenStack below (root)
	@cd e2e && go run ./cmd/cluster up

.PHONY: cluster-down
cluster-down: ## Take it down; nothing is left
	@cd e2e && go run ./cmd/cluster down

.PHONY: demo-kubernetes
demo-kubernetes: cluster-up ## The driver in that cluster, and a volume that grows by kubectl edit while a pod writes (root)
	@cd e2e && eval "$$(go run ./cmd/cluster env)" && go run ./cmd/cluster install && ./examples/resize

.PHONY: e2e
e2e: e2e-prerequisites ## The driver in that cluster: Helm, our own tests, the core of Kubernetes' storage suite (root)
	@.ci/e2e core

.PHONY: e2e-full
e2e-full: e2e-prerequisites ## The same with all of Kubernetes' storage suite
	@.ci/e2e full

.PHONY: drill
drill: e2e-prerequisites ## Ten incidents in that cluster: which alert holds, what the commands say, and that the cure works; writes docs/drill.md (root)
	@.ci/drill

.PHONY: openstack-up
openstack-up: ## A real OpenStack on this machine with two guests, from Debian 12's packages, on loopback (root)
	@e2e/openstack/install
	@cd e2e && go build -o $(BIN)/openstack ./openstack/cmd/openstack
	@$(BIN)/openstack up
	@$(BIN)/openstack guests

.PHONY: openstack-down
openstack-down: ## End it; nothing is left but the packages and the guests' kernel
	@cd e2e && go run ./openstack/cmd/openstack down

.PHONY: e2e-openstack
e2e-openstack: ## The driver against that OpenStack, and the development cloud held to what it answers (root)
	@e2e/openstack/run

.PHONY: build
build: ## Build the plugin, the development cloud and the demo into bin/
	@mkdir -p $(BIN)
	@echo "building into bin/"
	@CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: fuzz
fuzz: ## Run every fuzz target for 30 s (FUZZTIME=)
	@go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | while read -r dir; do \
	  for target in $$(cat $$dir/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
	    echo "== $$target in $${dir#$(CURDIR)/}"; (cd $$dir && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-30s} -fuzzminimizetime 1s .); \
	  done; done

.PHONY: fmt
fmt: ## Format the code
	$(LINT) fmt
	cd e2e && $(LINT_E2E) fmt -c ../.golangci.yml
	cd charts/dashboard && $(LINT_DASHBOARD) fmt -c ../../.golangci.yml *.go

.PHONY: prerequisites
prerequisites: ## Install what demo and test need, or say what to install
	@.ci/prerequisites

.PHONY: demo-prerequisites
demo-prerequisites:
	@.ci/prerequisites demo

.PHONY: e2e-prerequisites
e2e-prerequisites:
	@.ci/prerequisites e2e

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)

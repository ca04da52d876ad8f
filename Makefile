# `make` alone lists the targets.

GOLANGCI_LINT_VERSION := v2.15.0

# Programs that work on the source, each in a directory named by its version. Not in go.mod: an importer of pkg/verifier would get
# their requirements.
TOOLS         := .tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint

# Most tests wait for a disk or a clock, so that more of them run side by side than there are cores.
PARALLEL ?= 8

# PACKAGES and ARGS narrow test, race and microbench: make test PACKAGES=./pkg/session ARGS='-run Rotate -v'
PACKAGES ?= ./...
ARGS     ?=
FUZZTIME ?= 10s

# A module of its own, since its dependency is not for all: ./... does not reach it.
REDISSTORE := pkg/bff/redisstore

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the service with SQLite on 127.0.0.1:8080
	go run ./cmd/handstamp serve

.PHONY: build
build: ## build bin/handstamp, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/handstamp ./cmd/handstamp

.PHONY: install
install: ## put handstamp into the bin directory of Go
	CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' ./cmd/handstamp

.PHONY: test
test: ## run every test, on SQLite and on PostgreSQL
	scripts/with-clients scripts/with-postgres go test -timeout 20m -parallel $(PARALLEL) $(ARGS) $(PACKAGES)
	$(if $(filter ./...,$(PACKAGES)),scripts/with-redis go test -C $(REDISSTORE) $(ARGS) ./...)

# What test-quick leaves out: browsers, Apache, the README as printed, the play of crashes, long histories, and toolchains of other languages.
SLOW := TestPagesInChromium|TestWebAppInChromium|TestGatewayInChromium|TestDemoInChromium|TestOIDCClientTS|TestJSClient|TestSPAReact|TestSinglePageAppGuide|TestREADME|TestRT11_CrashPoints|TestHistories_|TestSeededBugs|TestJava|TestRust|TestApache|TestNodeByItself|TestPythonByItself

.PHONY: test-quick
test-quick: ## run the tests that take no browser, other toolchain or long history
	@echo 'left out: $(subst |,* ,$(SLOW))*; make test runs them' >&2
	scripts/in-memory scripts/with-postgres go test -timeout 10m -parallel $(PARALLEL) -skip '^($(SLOW))' $(ARGS) $(PACKAGES)

.PHONY: race
race: ## run every test with the race detector
	scripts/with-clients scripts/with-postgres go test -race -timeout 15m $(ARGS) $(PACKAGES)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## check form and habits
	$(GOLANGCI_LINT) run $(PACKAGES)
	scripts/lint-openapi

.PHONY: format
format: $(GOLANGCI_LINT) ## put the source in form
	$(GOLANGCI_LINT) fmt

.PHONY: bench
bench: ## measure the service next to its references, in one run
	scripts/bench $(ARGS)

.PHONY: microbench
microbench: ## run the benchmarks of single functions
	scripts/with-postgres go test -run '^$$' -bench . -benchmem $(ARGS) $(PACKAGES)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	scripts/with-postgres scripts/fuzz $(FUZZTIME) $(PACKAGES)

.PHONY: interop
interop: ## run the examples of other languages and gateways
	scripts/interop

$(GOLANGCI_LINT):
	GOBIN=$(CURDIR)/$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

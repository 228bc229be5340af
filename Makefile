# ocbackup. "make" alone lists the targets.

PREFIX  ?= /usr/local
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/ocbackup/ocbackup/commands.Version=$(VERSION)

# What "make bench" measures beside the scenarios.
BENCHED := ./catalog ./certificate ./opencloud/nodes ./extract

TOOLS   := $(CURDIR)/.tools
export PATH := $(TOOLS)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo build test test-vm unit lint fmt bench install tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## back up, list, verify, wipe, restore and compare a recorded server, here and now
	@tools/demo.sh

build: ## bin/ocbackup
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ocbackup .

tools: ## install what the scenarios need into .tools/ (root: Docker, systemd-nspawn)
	@tools/restic.sh
	@tools/versitygw.sh
	@tools/docker.sh
	@tools/nspawn.sh
	@tools/fs.sh
	@tools/zfs.sh

test: tools ## unit tests and all scenarios (root)
	$(GO) vet -tags integration,faultpoint ./...
	$(GO) test -tags integration,faultpoint -timeout 60m ./...

test-vm: ## the tests of LVM, in a small virtual machine (root)
	@mkdir -p $(TOOLS)/vm
	CGO_ENABLED=0 $(GO) test -c -tags integration -o $(TOOLS)/vm/snapshot.test ./snapshot
	@tools/vm.sh $(TOOLS)/vm/snapshot.test -test.v -test.timeout 14m -test.run LVM

unit: ## unit tests only: no root, nothing to install
	$(GO) test ./...

lint: $(TOOLS)/bin/golangci-lint ## the linter, with the import rules of the design
	golangci-lint run --build-tags integration,faultpoint ./...
	bash -n tools/*.sh .ci/run

fmt: $(TOOLS)/bin/golangci-lint ## format as the linter wants it
	golangci-lint fmt

# The linter is a module of its own: its dependencies stay out of the program's.
$(TOOLS)/bin/golangci-lint: tools/go.mod tools/go.sum
	@mkdir -p $(@D)
	cd tools && $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bench: build ## time, memory and downtime against plain restic and rclone
	@tools/restic.sh
	@tools/versitygw.sh
	@tools/rclone.sh
	@tools/fs.sh
	$(GO) test -tags integration,bench -run '^$$' -bench . -benchtime 1x -timeout 60m ./integration/... $(BENCHED)

install: build ## bin/ocbackup to $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 bin/ocbackup $(DESTDIR)$(PREFIX)/bin/ocbackup

clean: ## remove bin/ (and not .tools/)
	rm -rf bin

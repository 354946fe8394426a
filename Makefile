# Assay. The two commands to know: make demo, make test.

GO        ?= go
VERSION   ?= 0.1.0-dev
BIN       := bin
FUZZTIME  ?= 20s
TOOL      := $(GO) tool -modfile=tools/go.mod
LDFLAGS   := -s -w -buildid= -X github.com/assay-project/assay/internal/program.version=$(VERSION)
# FIPS=1 builds with Go's validated FIPS 140-3 module and turns it on.
ifdef FIPS
export GOFIPS140 := certified
endif

.PHONY: bench-vm test-race test-others install-dropins install-service test-libvirt test-systemd pkcs11 differential help demo test build lint bench fuzz setup reproducible openapi clean test-interop test-qemu test-vm bench-qemu test-tpm-suites test-vtpm-load

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: setup build ## boot real machines, good and tampered with, and appraise recorded boots; show what is said of each
	@rm -rf $(BIN)/demo $(BIN)/demo-vm
	@$(BIN)/assay demo --keep $(BIN)/demo
	@echo
	@$(BIN)/assay demo machines --keep $(BIN)/demo-vm

test: setup ## set up what is missing and run every test that CI runs
	@$(MAKE) --no-print-directory -j 2 test-race test-others

# A program built with the race detector sleeps a second at its end by default, each
# child of a test too: GORACE makes that 20 ms. Vet runs in lint. Some tests
# wait for servers and machines, so three packages are tested at a time on two cores.
# No debugger reads these programs, and Go's cryptographic primitives are not ours to
# test for races: a third of the time went into both. Package arch reads the sources and
# starts nothing: without the detector it takes a tenth of the time.
RACE := -race -vet=off -ldflags=-w -gcflags=all=-dwarf=false '-gcflags=crypto/internal/fips140/...=-dwarf=false -race=false'

test-race:
	all=$$($(GO) list ./...) && GORACE=atexit_sleep_ms=20 ASSAY_REQUIRE_POSTGRES=1 ASSAY_REQUIRE_OPENSSL=1 ASSAY_REQUIRE_TPM_TOOLS=1 ASSAY_REQUIRE_QEMU=1 ASSAY_REQUIRE_SYSTEMD=1 ASSAY_REQUIRE_PYKMIP=1 ASSAY_REQUIRE_SOFTHSM=1 ASSAY_REQUIRE_BOOT_TOOLS=1 ASSAY_REQUIRE_ALERTMANAGER=1 ASSAY_REQUIRE_PROMETHEUS=1 ASSAY_REQUIRE_PTY=1 ASSAY_REQUIRE_SWTPM=1 $(GO) test $(RACE) -p 3 -shuffle=on -timeout 20m $$(echo "$$all" | grep -v '/internal/arch$$')

test-others:
	$(GO) test -vet=off ./internal/arch
	cd cmd/assay-pkcs11 && $(GO) vet . && $(GO) test -count=1 .
	GOFIPS140=certified $(GO) test -vet=off -timeout 10m ./tpm2/engine ./internal/tpmcrypto
	ASSAY_REQUIRE_FIPS=1 $(GO) test -count=1 -vet=off -timeout 10m ./test/fips
	$(MAKE) --no-print-directory test-interop reproducible

test-interop: ## other people's TPM suites over our engine, from the module proxy and Debian's packages
	cd test/interop && ASSAY_REQUIRE_TPM_TOOLS=1 $(GO) test -count=1 -timeout 20m ./...
	cd test/peers && $(GO) test -count=1 -run GoTPMTools .

test-qemu: setup ## every real machine: both interfaces, snapshots, migrations and their failures
	ASSAY_REQUIRE_QEMU=1 $(GO) test -count=1 -timeout 60m ./test/qemu -all -v

test-vm: setup ## the negative matrix as real boots of whole machines: what is refused, what is noticed and how
	ASSAY_REQUIRE_QEMU=1 $(GO) test -count=1 -timeout 60m ./test/vm -all -v

bench-qemu: setup ## our TPM beside swtpm under QEMU: start, boot, snapshot, migration; PAIRS boots over each (15)
	ASSAY_REQUIRE_QEMU=1 $(GO) test -count=1 -timeout 60m -run Bench ./test/qemu -bench-swtpm -pairs $(or $(PAIRS),15) -v

bench-vm: ## machines: what a start and a verdict cost, 200 idle ones and a look at them (on a quiet machine)
	$(GO) test -count=1 -run '^$$' -bench 'Start|Verdict' -benchtime 200x ./internal/machine
	$(GO) test -count=1 -timeout 30m -run IdleMachines ./internal/machine -idle 200 -idle-for 2m -v

test-tpm-suites: ## all TPM suites: SUITES_DIR has their checkouts, see docs/tpm-conformance.md
	tools/tpm-suites.sh $(or $(SUITES_DIR),$(error SUITES_DIR is not set: see docs/tpm-conformance.md)) $(SUITES)

test-vtpm-load: ## 5,000 boots by 200 machines at once, and the memory of 1,000 TPMs
	nice -n 10 $(GO) test -count=1 -timeout 40m -run 'Boots|Idle' ./internal/vtpm -guests 200 -boots 5000 -idle 1000 -v

build: ## build the programs into bin/ (FIPS=1: with the FIPS 140-3 module)
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer must be on PATH: see README.md, Requirements" >&2; exit 1; }
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='$(LDFLAGS)' -o $(BIN)/ ./cmd/...

pkcs11: ## build bin/assay-pkcs11, which speaks to PKCS #11 tokens (cgo: needs a C compiler)
	cd cmd/assay-pkcs11 && CGO_ENABLED=1 $(GO) build -trimpath -ldflags='-s -w -buildid=' -o ../../$(BIN)/ .

test-libvirt: ## real domains of libvirt; needs the packages libvirt-daemon-system, libvirt-clients; as root also two hosts that migrate
	ASSAY_REQUIRE_LIBVIRT=1 $(GO) test -count=1 -timeout 30m -v ./test/libvirt

test-systemd: ## the services of TPMs and of machines, in containers; needs root and the package systemd-container
	ASSAY_REQUIRE_SYSTEMD=1 ASSAY_REQUIRE_NSPAWN=1 $(GO) test -count=1 -timeout 20m -v ./test/systemd

install-dropins: build ## put assay, and assay-vtpm with its names swtpm, swtpm_ioctl, swtpm_setup, swtpm_cert, swtpm_localca into DIR, which libvirt finds first
	@test -n "$(DIR)" || { echo "DIR is not set: make install-dropins DIR=/usr/local/bin" >&2; exit 1; }
	install -D -m 0755 -t $(DIR) $(BIN)/assay $(BIN)/assay-vtpm
	for name in swtpm swtpm_ioctl swtpm_setup swtpm_cert swtpm_localca; do ln -sf assay-vtpm $(DIR)/$$name; done

UNITS := assay-vtpm.service assay-vm@.service assay-findings.service assay-agent.service assay-agent-serial.service

install-service: build ## install the programs, and the units of TPMs, machines, findings and agents (DESTDIR for a package)
	install -D -m 0755 -t $(DESTDIR)/usr/bin $(BIN)/assay $(BIN)/assay-vtpm $(BIN)/assay-agent
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/system $(UNITS:%=packaging/systemd/%)
	install -D -m 0644 packaging/sysusers.d/assay.conf $(DESTDIR)/usr/lib/sysusers.d/assay.conf

reproducible: ## build twice in different folders and compare
	@sh tools/reproducible.sh '$(LDFLAGS)'

lint: ## formatting, vet, fix, staticcheck, import order, generated documents
	@out=$$($(TOOL) gofumpt -l .); test -z "$$out" || { echo "not formatted (gofumpt):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	@out=$$($(GO) fix -diff ./... 2>&1); test -z "$$out" || { echo "go fix would change:"; echo "$$out"; exit 1; }
	$(TOOL) staticcheck ./...
	$(GO) test -count=1 ./internal/arch
	@for on in darwin/arm64 windows/amd64; do GOOS=$${on%/*} GOARCH=$${on#*/} CGO_ENABLED=0 $(GO) build ./tpm2/... || exit 1; done
	$(GO) vet -tags purego ./internal/fermat
	$(GO) mod verify

bench: ## measure the table of docs/benchmarks.md, peers beside us
	sh tools/bench.sh

differential: ## a million commands to our TPM and to Debian's swtpm, compared (SEED=1)
	ASSAY_REQUIRE_SWTPM=1 nice -n 10 $(GO) test -count=1 -timeout 2h -run SWTPM ./test/differential -commands 1000000 -budget 0 -seed $(or $(SEED),1) -v

fuzz: ## run every fuzz target for FUZZTIME (20s)
	sh tools/fuzz.sh $(FUZZTIME)

setup: ## install what the tests need and this machine lacks
	@sh tools/setup.sh

openapi: ## write docs/openapi.json anew
	$(GO) run ./cmd/assay openapi > docs/openapi.json

clean:
	rm -rf $(BIN) dist cover.out

# For GNU make. What .ci/run does, it does by these targets.

PREFIX  = /usr/local
BINDIR  = $(PREFIX)/bin
SBINDIR = $(PREFIX)/sbin
MANDIR  = $(PREFIX)/share/man
# Where the shells look for completions of what others install.
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR  = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
DATADIR = $(PREFIX)/share/blcr-cli
DOCDIR  = $(PREFIX)/share/doc/blcr-cli
DESTDIR =

# The first version heading of the CHANGELOG.
VERSION := $(shell sed -n 's/^\#\# *\([0-9][^ ]*\).*/\1/p' CHANGELOG.md | sed 1q)

# sudo's PATH may lack the directory that Go is usually in.
GO         := $(firstword $(shell command -v go) $(wildcard /usr/local/go/bin/go /usr/lib/go/bin/go) go)
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Makes packages. (The last version that the Go module proxy has all of: 2.46
# needs a module that it refuses.)
NFPM        = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
# Leaves out a Markdown parser that the cli package would initialise at each start.
TAGS        = urfave_cli_no_docs
# The entry point that runs before the Go runtime, package entry, which
# is there for amd64 only.
LDFLAGS    := $(if $(filter amd64,$(shell $(GO) env GOARCH 2>/dev/null)),-E blcr-cli/internal/entry.entry)
# Functions start anywhere, or at multiples of 8 bytes, not 32, which makes the commands
# smaller.
LDFLAGS    += -funcalign $(if $(filter amd64,$(shell $(GO) env GOARCH 2>/dev/null)),1,8)
# What is not inlined, which makes the commands smaller by 220 kB: packages that make
# and read texts, that make system calls, and all of ours but those that move data.
SMALLER     = unicode sort hash/... internal/reflectlite internal/godebug internal/sync path/... github.com/xrash/... github.com/cpuguy83/... google.golang.org/... log math/... iter maps html/... internal/bisect internal/testlog internal/fmtsort github.com/klauspost/compress/internal/... fmt reflect regexp/... text/template/... time github.com/urfave/cli/v2 \
              os syscall internal/poll context errors strings strconv golang.org/x/sys/unix \
              bytes crypto/... encoding/... flag internal/strconv internal/syscall/... io/... \
              net/... slices sync unicode/... blcr-cli/...
FAST        = blcr-cli/internal/ctxfile blcr-cli/internal/ckpt/criu/memory \
              blcr-cli/internal/ckpt/criu/images blcr-cli/internal/ckpt/kernel/...
# Where build puts the commands.
OUT         = bin/
# Where criu is put; bin/ looks for it there.
CRIUDIR     = .criu
# More for go test, such as -v, -json or -race. The tests wait more than they
# compute, so more of them run at a time than there are processors. (-count=1
# below: go test does not see what the scripts' commands are built from.)
TESTFLAGS   = -parallel 6 -p 4

# How long make fuzz runs each target.
TIME        = 30s

COMMANDS = cr_batch cr_checkpoint cr_info cr_restart cr_run ftb-publish ftb-watch
BINARIES = $(COMMANDS:%=$(OUT)%)
# One for each command, and whatever else there is.
PAGES   := $(sort $(COMMANDS:%=man/%.1) $(wildcard man/*.[1-8]))
# What install puts elsewhere than BINDIR: a word "FILE:DESTINATION" each.
SHARED   = $(foreach f,$(PAGES),$(f):$(MANDIR)/man$(subst .,,$(suffix $(f)))/$(notdir $(f))) \
           $(foreach f,$(wildcard completions/bash/*),$(f):$(BASHDIR)/$(notdir $(f))) \
           $(foreach f,$(wildcard completions/zsh/*),$(f):$(ZSHDIR)/$(notdir $(f))) \
           $(foreach f,$(wildcard completions/fish/*),$(f):$(FISHDIR)/$(notdir $(f))) \
           $(foreach f,$(wildcard docs/examples/*),$(f):$(DOCDIR)/$(f)) \
           packaging/ftb/blcr.ftb:$(DATADIR)/blcr.ftb
# Those that read their command lines as getopt does.
GETOPT   = $(filter-out cr_batch cr_run ftb-watch,$(COMMANDS))
# Those that the benchmarks measure.
BENCHED  = bin/cr_checkpoint bin/cr_restart

# Where the installed commands look for a criu of ours.
CRIUPATH = $(PREFIX)/lib/blcr-cli/criu
CRIUDEST = $(DESTDIR)$(CRIUPATH)

# Where dist puts the packages, and who answers for them: the name is LICENSE's,
# the address that of the last commit, whose time is theirs as well. Where there
# is no git, the environment has to say MAINTAINER and SOURCE_DATE_EPOCH.
DIST        = dist
MAINTAINER ?= $(shell sed -n 's/^Copyright (c) [0-9-]* //p' LICENSE) <$(shell git log -1 --format=%ae)>

# Ends with what to do where there is no Go, or one that is too old to get a newer one.
NEEDGO      = cd / && v=$$($(GO) env GOVERSION 2>/dev/null); case $$v in \
	'') why="there is no Go here ($(GO))" ;; \
	go1.1[0-9]* | go1.20* | go1.[0-9].*) why="$$v is too old" ;; \
	*) exit 0 ;; esac; \
	printf '%s\n' "make: $$why; it takes Go 1.21 or newer, which then gets the Go that go.mod names" \
	"  Debian 13, Ubuntu 24.04: sudo apt install golang-go; Debian 12: golang-go of bookworm-backports" \
	"  elsewhere: https://go.dev/doc/install; another directory: make GO=/DIRECTORY/bin/go" >&2; exit 1

.PHONY: build test check check-batch fuzz demo recording lint ledger getopt-million bench bench-criu criu criu-for-users install uninstall dist release dist-check clean help

build: ## the commands into bin/, static
	@$(NEEDGO)
	$(if $(VERSION),,$(error CHANGELOG.md has no version heading))CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -buildvcs=false \
		$(SMALLER:%=-gcflags=%=-l) $(FAST:%=-gcflags=%=) \
		-ldflags "-s -w $(LDFLAGS) -X blcr-cli/internal/cli.Version=$(VERSION)" -o $(OUT) ./cmd/...

test: ## the whole suite, without root
	@test/tools
	$(GO) test -count=1 -timeout 40m $(TESTFLAGS) ./...

check: ## the same as root, without samples and skipping nothing, then real processes
	@test "$$(id -u)" = 0 || { echo "make check: it takes root; 'make test' is the part that does not" >&2; exit 1; }
	@CI=true test/tools
	@$(MAKE) --no-print-directory criu
	CI=true $(GO) test -count=1 -timeout 40m $(TESTFLAGS) ./...
	CI=true $(GO) test -count=1 -timeout 40m $(TESTFLAGS) -parallel 2 -tags real ./test/real

check-batch: ## as root: job scripts in a real SLURM and Grid Engine, and MPI programs; skips what is missing
	@test "$$(id -u)" = 0 || { echo "make check-batch: it takes root, for the daemons of batch systems" >&2; exit 1; }
	@test/tools --batch
	@$(MAKE) --no-print-directory criu
	$(GO) test -count=1 -timeout 20m $(TESTFLAGS) -parallel 16 -tags batch ./test/batch

fuzz: ## every fuzz target in turn, each for TIME (30s)
	@failed=; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$${file%/*} $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(TIME) -fuzzminimizetime 10x "$${file%/*}" || failed="$$failed $$target"; \
		done; \
	done; test -z "$$failed" || { echo "make fuzz: failed:$$failed" >&2; exit 1; }

demo: ## a program is saved while it counts, and counts on when it is back; by sudo, or as root
	@MAKE='$(MAKE)' GO='$(GO)' demo/demo

recording: build criu ## as root: demo/session.cast, from a real run
	CGO_ENABLED=0 $(GO) build -buildvcs=false -o bin/.count ./demo/count
	$(GO) run ./demo/recording bin demo/session.cast

lint: ## formatting, go vet on two architectures, staticcheck, manual pages, spelling, shellcheck
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "not formatted by gofmt:" $$files >&2; exit 1; }
	$(GO) vet -tags real,batch ./...
	CGO_ENABLED=0 GOARCH=386 $(GO) vet ./...
	for arch in 386 arm64; do GOARCH=$$arch $(MAKE) --no-print-directory build OUT=/dev/null || exit; done
	$(GO) run $(STATICCHECK) -tags real,batch ./...
	@command -v mandoc >/dev/null || { echo "make lint: mandoc is missing" >&2; exit 1; }
	mandoc -T lint -W warning $(PAGES)
	@! command -v codespell >/dev/null || codespell -L nd *.md docs man/*.[1-8] cmd packaging demo completions
	@! command -v shellcheck >/dev/null || shellcheck --shell=bash --severity=warning completions/bash/*
	@! command -v shellcheck >/dev/null || shellcheck --severity=warning docs/examples/*.sh .ci/run test/tools packaging/criu/get-criu packaging/dist/make-dist packaging/dist/check-dist packaging/dist/postinst packaging/dist/prerm

ledger: ## the differences from BLCR in blcr-cli(7), after a change of DIFFERENCES.md
	$(GO) test -count=1 -run '^TestDifferences$$' ./man -update

getopt-million: ## a million command lines of each command with getopt's, compared with glibc
	CI=true GETOPT_LINES=1000000 $(GO) test -count=1 -timeout 30m -v $(TESTFLAGS) \
		-run 'AgainstGlibc' ./internal/cli/getopt $(GETOPT:%=./cmd/%)

bench: build ## start-up time, memory and size, against their limits
	$(GO) run ./test/bench $(BENCHED)

bench-criu: build ## what the criu engine costs more than criu, as root; BENCHFLAGS=-h for flags
	CR_CRIU="$${CR_CRIU:-$$(test ! -x $(CRIUDIR)/criu || realpath $(CRIUDIR)/criu)}" \
		$(GO) run ./test/bench/engine $(BENCHFLAGS) $(BENCHED)

criu: ## a criu that works: the machine's if it is new, or else its distribution's in .criu
	packaging/criu/get-criu $(CRIUDIR)

criu-for-users: ## as root: one in .criu with which ordinary users can save and restore; GROUP=… for some
	@test "$$(id -u)" = 0 || { echo "make criu-for-users: only root can give criu a capability: sudo make criu-for-users" >&2; exit 1; }
	packaging/criu/get-criu --for-users $(if $(GROUP),--group '$(GROUP)') $(CRIUDIR)

install: $(BINARIES) ## into DESTDIR and PREFIX what 'make build' built
	install -d $(DESTDIR)$(BINDIR)
	install -m 755 $(BINARIES) $(DESTDIR)$(BINDIR)
	@for f in $(SHARED); do install -D -m 644 "$${f%%:*}" "$(DESTDIR)$${f#*:}" || exit; done
	install -D -m 755 packaging/criu/get-criu $(DESTDIR)$(SBINDIR)/blcr-cli-criu
	if [ -x $(CRIUDIR)/criu ]; then packaging/criu/get-criu --install $(CRIUDEST) $(CRIUPATH) $(CRIUDIR); fi

uninstall: ## take that away again
	rm -f $(COMMANDS:%=$(DESTDIR)$(BINDIR)/%)
	@for f in $(SHARED); do rm -f "$(DESTDIR)$${f#*:}" || exit; done
	rm -f $(DESTDIR)$(SBINDIR)/blcr-cli-criu
	rm -rf $(CRIUDEST)
	rmdir $(dir $(CRIUDEST)) $(DESTDIR)$(DATADIR) $(DOCDIR:%=$(DESTDIR)%/docs/examples) $(DOCDIR:%=$(DESTDIR)%/docs) \
		$(DESTDIR)$(DOCDIR) 2>/dev/null || :

dist: ## a tar.gz, a .deb and an .rpm for amd64, and an SBOM, into dist/
	@$(if $(VERSION),,$(error CHANGELOG.md has no version heading))MAKE='$(MAKE)' GO='$(GO)' NFPM='$(NFPM)' \
		VERSION='$(VERSION)' MAINTAINER='$(MAINTAINER)' packaging/dist/make-dist '$(DIST)'

release: ## what a release consists of, into dist/, from a clean clone; then says how to tag it
	@test -z "$$(git status --porcelain)" || { echo "make release: there are changes that are not committed: git status" >&2; exit 1; }
	@grep -q '^## $(VERSION) - 20[0-9-]*$$' CHANGELOG.md || { echo "make release: CHANGELOG.md has no date for $(VERSION)" >&2; exit 1; }
	@$(MAKE) --no-print-directory dist
	@git archive --format=tar --prefix='blcr-cli-$(VERSION)/' HEAD | gzip -9n >'$(DIST)/blcr-cli_$(VERSION)_source.tar.gz'
	@cd '$(DIST)' && sha256sum blcr-cli[-_]* >SHA256SUMS && cat SHA256SUMS
	@echo "after 'make dist-check': git tag -s v$(VERSION) -m 'blcr-cli $(VERSION)'"

dist-check: dist ## as root: they are the same when built again; lintian, rpmlint; installed, run, removed
	@MAKE='$(MAKE)' GO='$(GO)' NFPM='$(NFPM)' VERSION='$(VERSION)' MAINTAINER='$(MAINTAINER)' \
		COMMANDS='$(COMMANDS)' packaging/dist/check-dist '$(DIST)'

clean: ## remove what was built
	rm -rf bin dist

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

# Only what is missing: who installs may have no compiler.
$(BINARIES):
	$(MAKE) build

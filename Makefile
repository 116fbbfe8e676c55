# SPDX-License-Identifier: MIT
# ipcdoor: everything starts here; `make help` lists the targets.
#
# One fragment per folder defines how that folder is built. Artefacts go to
# $(BUILD), those of one VARIANT (plain, asan, tsan) to $(BUILD)/$(VARIANT);
# results for people go to $(OUT).

BUILD ?= build
OUT ?= out
VARIANT ?= plain
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
# The guest's kernel: a name of qemu/kernels, empty for the first one.
K ?=

override V := $(BUILD)/$(VARIANT)
# The scripts look for what was built there, too.
export IPCDOOR_BUILD := $(abspath $(BUILD))

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
CXXSTD := -std=c++20
WARN := -Wall -Wextra -Wshadow -Wnon-virtual-dtor
OPT ?= -O2 -g
DEPFLAGS := -MMD -MP

# A warning stops CI, not a user with another compiler; and not the sanitizers'
# builds, whose checks make gcc 12 see overlaps and missing values that are not there.
ifeq ($(VARIANT),plain)
SAN :=
WARN += $(if $(CI),-Werror)
else ifeq ($(VARIANT),asan)
# Reports need lines, not more. With -O1 the two sanitizers take twice as long to compile.
OPT := -O0 -g1
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
WARN += -Wno-restrict -Wno-maybe-uninitialized
else ifeq ($(VARIANT),tsan)
OPT := -O1 -g1
SAN := -fsanitize=thread
WARN += -Wno-restrict -Wno-maybe-uninitialized
else ifeq ($(VARIANT),coverage)
# Threads count together, and a child that ends by _exit() has counted as well.
SAN := --coverage -fprofile-update=atomic -DIPCDOOR_COVERAGE
OPT := -O0 -g
else
$(error VARIANT is plain, asan, tsan or coverage, not '$(VARIANT)')
endif

# For run and test: quiet (VERBOSE=1: not), and several jobs where the user has not
# said how many.
SUBMAKE = +@$(MAKE) $(if $(VERBOSE),,-s) --no-print-directory $(if $(filter -j% --jobserver-auth=% --jobserver-fds=%,$(MAKEFLAGS)),,-j$(JOBS))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

.PHONY: all
all: kmod userlib tools tests ## build everything (the default)

.PHONY: kmod userlib tools tests
-include kmod/build.mk
-include userlib/build.mk
-include tools/build.mk
-include tests/build.mk
-include $(sort $(wildcard tests/*/build.mk tests/*/*/build.mk))

.PHONY: setup
setup: ## install the packages that are missing (the only step that needs root)
	@tools/setup

.PHONY: run
run: ## boot a guest and measure interrupt latency in it; results in $(OUT)/
	@tools/setup
	@echo "building"
	$(SUBMAKE) kmod tools
	@mkdir -p $(OUT)
	@qemu/run $(if $(K),--kernel $(K)) --cpus 2 --timeout 600 --add $(BUILD)/plain/tools/irqbench \
		--get /tmp/irqbench.json=$(OUT)/irqbench.json \
		--get /tmp/irqbench.html=$(OUT)/irqbench.html \
		-- irqbench run --json /tmp/irqbench.json --html /tmp/irqbench.html
	@echo "wrote $(OUT)/irqbench.json and $(OUT)/irqbench.html"

.PHONY: test
test: ## run all tests: natively, under sanitizers, and in guests
	@tools/setup --bench
	@echo "building: plain, asan, tsan"
	$(SUBMAKE) all $(BUILD)/plain/tools/ipcdoor-bench
	$(SUBMAKE) VARIANT=asan $(BUILD)/asan/tests/unit $(BUILD)/asan/tests/corpus $(BUILD)/asan/tests/lib $(BUILD)/asan/tests/crash
	$(SUBMAKE) VARIANT=tsan $(BUILD)/tsan/tests/unit $(BUILD)/tsan/tests/corpus $(BUILD)/tsan/tests/lib
	@tests/run $(if $(K),--kernel $(K)) $(TESTS)

.PHONY: shell
shell: kmod ## an interactive guest with the module loaded
	@qemu/shell $(if $(K),--kernel $(K))

.PHONY: lint
lint: ## static checks: shell, sparse, checkpatch, clang-format, clang-tidy
	@tools/setup --lint --bench
	@tools/lint $(STEPS)

.PHONY: format
format: ## put the C++ sources into the project's format
	@tools/setup --lint
	tools/lint --sources | xargs clang-format -i

.PHONY: install uninstall
install:: ## install library, headers and tools (PREFIX, DESTDIR, LIBDIR)

uninstall:: ## remove what install has put there (with the same variables)

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BUILD)

.PHONY: distclean
distclean: clean ## also remove results and the cached guest kernels
	rm -rf $(OUT) "$${IPCDOOR_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/ipcdoor}"

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z][a-z -]*)::?[^=#]*## (.*)/  \1\t\2/p' Makefile */build.mk $(wildcard */*/build.mk */*/*/build.mk) | sed 's/\$$(OUT)/$(OUT)/' | \
		awk -F '\t' '{ printf "%-15s %s\n", $$1, $$2 }'
	@echo
	@echo "  variables: VARIANT=plain|asan|tsan|coverage K=KERNEL KDIR=HEADERS BUILD OUT PREFIX DESTDIR LIBDIR JOBS CI VERBOSE"
	@echo "    TESTS=SUITES (test), STEPS=LINT-STEPS (lint), COMPARE=OPTIONS, BENCH=OPTIONS"

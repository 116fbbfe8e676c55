# SPDX-License-Identifier: MIT
# Builds $(V)/tools/irqbench, ipcdoor-cat and ipcdoor-proxy and their man pages; and, where
# it is asked for, $(V)/tools/ipcdoor-bench. For the unit tests:
#   IRQBENCH_TESTABLE_OBJS, IRQBENCH_TESTABLE_LIBS   all of irqbench but its main()

# What writes reports, for all tools that measure.
REPORT_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tools/report/*.cpp)))
IRQBENCH_SRCS := $(sort $(wildcard tools/irqbench/*.cpp tools/irqbench/*/*.cpp))
IRQBENCH_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(IRQBENCH_SRCS)) $(REPORT_OBJS)
IRQBENCH_LIBS := -lfmt
IRQBENCH_TESTABLE_OBJS := $(filter-out %/main.o,$(IRQBENCH_OBJS))
IRQBENCH_TESTABLE_LIBS := $(IRQBENCH_LIBS)
CAT_SRCS := $(sort $(wildcard tools/ipcdoor-cat/*.cpp))
CAT_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(CAT_SRCS))
CAT_LIBS := -lfmt
PROXY_SRCS := $(sort $(wildcard tools/ipcdoor-proxy/*.cpp))
PROXY_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(PROXY_SRCS))
PROXY_LIBS := -lfmt
# Its files are its contestants', too: each of groups/ registers its own.
BENCH_SRCS := $(sort $(wildcard tools/bench/*.cpp tools/bench/*/*.cpp))
BENCH_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(BENCH_SRCS))
BENCH_LIBS := -lbenchmark -lfmt -lrt
TOOLS_CPPFLAGS := -Ikmod/uapi -Iuserlib/include -Itools
TOOLS_PROGRAMS := $(V)/tools/irqbench $(V)/tools/ipcdoor-cat $(V)/tools/ipcdoor-proxy
TOOLS_PAGES := $(V)/man/irqbench.1 $(V)/man/ipcdoor-cat.1 $(V)/man/ipcdoor-proxy.1

.PHONY: tools
tools: $(TOOLS_PROGRAMS) $(TOOLS_PAGES) ## build irqbench, ipcdoor-cat and ipcdoor-proxy, and their man pages

$(IRQBENCH_OBJS) $(CAT_OBJS) $(PROXY_OBJS) $(BENCH_OBJS): $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(CXXSTD) $(WARN) $(OPT) $(SAN) $(DEPFLAGS) $(TOOLS_CPPFLAGS) $(CPPFLAGS) \
		$(CXXFLAGS) -pthread -c -o $@ $<

# Linked with the static library: one file to copy into a guest or onto a machine.
$(V)/tools/irqbench: $(IRQBENCH_OBJS) $(V)/lib/libipcdoor.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -pthread -o $@ $(IRQBENCH_OBJS) $(V)/lib/libipcdoor.a \
		$(IRQBENCH_LIBS)

$(V)/tools/ipcdoor-cat: $(CAT_OBJS) $(V)/lib/libipcdoor.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -pthread -o $@ $(CAT_OBJS) $(V)/lib/libipcdoor.a $(CAT_LIBS)

$(V)/tools/ipcdoor-proxy: $(PROXY_OBJS) $(V)/lib/libipcdoor.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -pthread -o $@ $(PROXY_OBJS) $(V)/lib/libipcdoor.a \
		$(PROXY_LIBS)

$(V)/tools/ipcdoor-bench: $(BENCH_OBJS) $(REPORT_OBJS) $(V)/lib/libipcdoor.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -pthread -o $@ $(BENCH_OBJS) $(REPORT_OBJS) \
		$(V)/lib/libipcdoor.a $(BENCH_LIBS)

$(V)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	scdoc < $< > $@

# Natively on the local door, which is the soft back end where no module is loaded;
# GUEST=1: in a guest on the module, with the source that real machines have. COMPARE:
# further options, as --quick.
GUEST ?=
COMPARE ?=
COMPARE_REPORT = $(OUT)/compare$(if $(GUEST),-guest)
COMPARE_IN_GUEST = qemu/run $(if $(K),--kernel $(K)) --cpus 2 --timeout 900 \
	--add $(V)/tools/irqbench --get /tmp/compare.json=$(COMPARE_REPORT).json \
	--get /tmp/compare.html=$(COMPARE_REPORT).html \
	-- irqbench compare --source ipi --json /tmp/compare.json --html /tmp/compare.html

.PHONY: compare
compare: ## each method beside the kernel's own, by message size (GUEST=1: in a guest, on the module)
	@tools/setup
	@echo "building"
	$(SUBMAKE) $(V)/tools/irqbench $(if $(GUEST),kmod)
	@mkdir -p $(OUT)
	@$(if $(GUEST),$(COMPARE_IN_GUEST),$(V)/tools/irqbench compare --json $(COMPARE_REPORT).json \
		--html $(COMPARE_REPORT).html) $(COMPARE)
	@echo "wrote $(COMPARE_REPORT).json and $(COMPARE_REPORT).html"

.PHONY: compare-docs
compare-docs: ## measure both again and put the figures into docs/choosing.md
	$(MAKE) --no-print-directory compare
	$(MAKE) --no-print-directory compare GUEST=1
	$(V)/tools/irqbench report $(OUT)/compare.json > $(OUT)/compare.txt
	# Emulated times mean nothing, so the guest's are not shown.
	$(V)/tools/irqbench report $(OUT)/compare-guest.json --summary > $(OUT)/compare-guest.txt
	tools/figures docs/choosing.md soft=$(OUT)/compare.txt guest=$(OUT)/compare-guest.txt

# BENCH: options, as --quick or --filter.
BENCH ?=

.PHONY: bench
bench: ## what operations cost on soft, beside others, with goals; results in $(OUT)/
	@tools/setup --bench
	@echo "building"
	$(SUBMAKE) $(V)/tools/ipcdoor-bench
	@mkdir -p $(OUT)
	@$(V)/tools/ipcdoor-bench --json $(OUT)/bench.json --html $(OUT)/bench.html $(BENCH)
	@echo "wrote $(OUT)/bench.json and $(OUT)/bench.html"

.PHONY: bench-docs
bench-docs: ## measure again and put the figures into docs/performance.md
	@mkdir -p $(OUT)
	$(MAKE) --no-print-directory -s bench > $(OUT)/bench.log
	sed -n '/^ipcdoor-bench/,/^measured in/p' $(OUT)/bench.log > $(OUT)/bench.txt
	tools/figures docs/performance.md bench=$(OUT)/bench.txt

install:: $(TOOLS_PROGRAMS) $(TOOLS_PAGES)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(TOOLS_PROGRAMS)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(TOOLS_PAGES)

uninstall::
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(TOOLS_PROGRAMS)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(TOOLS_PAGES)))

-include $(IRQBENCH_OBJS:.o=.d) $(CAT_OBJS:.o=.d) $(PROXY_OBJS:.o=.d) $(BENCH_OBJS:.o=.d)

# SPDX-License-Identifier: MIT
# Builds $(V)/tools/irqbench, ipcdoor-cat and ipcdoor-proxy and their man pages. For the
# unit tests:
#   IRQBENCH_TESTABLE_OBJS, IRQBENCH_TESTABLE_LIBS   all of irqbench but its main()

IRQBENCH_SRCS := $(sort $(wildcard tools/irqbench/*.cpp tools/irqbench/*/*.cpp))
IRQBENCH_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(IRQBENCH_SRCS))
IRQBENCH_LIBS := -lfmt
IRQBENCH_TESTABLE_OBJS := $(filter-out %/main.o,$(IRQBENCH_OBJS))
IRQBENCH_TESTABLE_LIBS := $(IRQBENCH_LIBS)
CAT_SRCS := $(sort $(wildcard tools/ipcdoor-cat/*.cpp))
CAT_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(CAT_SRCS))
CAT_LIBS := -lfmt
PROXY_SRCS := $(sort $(wildcard tools/ipcdoor-proxy/*.cpp))
PROXY_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(PROXY_SRCS))
PROXY_LIBS := -lfmt
TOOLS_CPPFLAGS := -Ikmod/uapi -Iuserlib/include -Itools
TOOLS_PROGRAMS := $(V)/tools/irqbench $(V)/tools/ipcdoor-cat $(V)/tools/ipcdoor-proxy
TOOLS_PAGES := $(V)/man/irqbench.1 $(V)/man/ipcdoor-cat.1 $(V)/man/ipcdoor-proxy.1

.PHONY: tools
tools: $(TOOLS_PROGRAMS) $(TOOLS_PAGES)

$(IRQBENCH_OBJS) $(CAT_OBJS) $(PROXY_OBJS): $(V)/obj/%.o: %.cpp
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

$(V)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	scdoc < $< > $@

.PHONY: install
install:: $(TOOLS_PROGRAMS) $(TOOLS_PAGES)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(TOOLS_PROGRAMS)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(TOOLS_PAGES)

-include $(IRQBENCH_OBJS:.o=.d) $(CAT_OBJS:.o=.d) $(PROXY_OBJS:.o=.d)

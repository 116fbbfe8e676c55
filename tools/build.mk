# SPDX-License-Identifier: MIT
# Builds $(V)/tools/irqbench and its man page. For the unit tests:
#   IRQBENCH_TESTABLE_OBJS, IRQBENCH_TESTABLE_LIBS   all of irqbench but its main()

IRQBENCH_SRCS := $(sort $(wildcard tools/irqbench/*.cpp tools/irqbench/methods/*.cpp))
IRQBENCH_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(IRQBENCH_SRCS))
IRQBENCH_LIBS := -lfmt
IRQBENCH_TESTABLE_OBJS := $(filter-out %/main.o,$(IRQBENCH_OBJS))
IRQBENCH_TESTABLE_LIBS := $(IRQBENCH_LIBS)
IRQBENCH_CPPFLAGS := -Ikmod/uapi -Iuserlib/include -Itools

.PHONY: tools
tools: $(V)/tools/irqbench $(V)/man/irqbench.1

$(IRQBENCH_OBJS): $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(CXXSTD) $(WARN) $(OPT) $(SAN) $(DEPFLAGS) $(IRQBENCH_CPPFLAGS) $(CPPFLAGS) \
		$(CXXFLAGS) -pthread -c -o $@ $<

# Linked with the static library: one file to copy into a guest or onto a machine.
$(V)/tools/irqbench: $(IRQBENCH_OBJS) $(V)/lib/libipcdoor.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -pthread -o $@ $(IRQBENCH_OBJS) $(V)/lib/libipcdoor.a \
		$(IRQBENCH_LIBS)

$(V)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	scdoc < $< > $@

.PHONY: install
install:: $(V)/tools/irqbench $(V)/man/irqbench.1
	install -D -m 755 $(V)/tools/irqbench $(DESTDIR)$(PREFIX)/bin/irqbench
	install -D -m 644 $(V)/man/irqbench.1 $(DESTDIR)$(PREFIX)/share/man/man1/irqbench.1

-include $(IRQBENCH_OBJS:.o=.d)

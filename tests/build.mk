# SPDX-License-Identifier: MIT
# Builds the test programs of one VARIANT:
#   $(V)/tests/{unit,uapi,lib}   Catch2 binaries from tests/<suite>/*.cpp
#   $(V)/tests/crash             the same from tests/lib/crash, with IPCDOOR_STEPS
#   $(V)/tests/stress/<name>     one program per tests/stress/<name>.cpp
#   $(V)/tests/system/<name>     one program per tests/system/src/<name>.cpp
# A suite without sources is a binary without test cases.

TESTS_CATCH_CFLAGS := $(shell pkg-config --cflags catch2 2>/dev/null)
# Nothing for v2, which is headers only; the library of v3.
TESTS_CATCH_LIBS := $(shell pkg-config --libs catch2 2>/dev/null)

TESTS_CPPFLAGS := -Ikmod/uapi -Iuserlib/include -Itests -Itools $(TESTS_CATCH_CFLAGS)
TESTS_COMPILE = $(CXX) $(CXXSTD) $(WARN) $(OPT) $(SAN) $(DEPFLAGS) $(TESTS_CPPFLAGS) $(CPPFLAGS) \
	$(CXXFLAGS) -pthread -c -o $@ $<
TESTS_LINK = $(CXX) $(OPT) $(SAN) $(LDFLAGS) -pthread -o $@ $(filter %.o,$^) $(filter %.a,$^)

TESTS_SUITES := unit uapi lib
TESTS_SUPPORT_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/support/*.cpp)))
# Programs with a main() of their own take the rest of the support code.
TESTS_HELPER_OBJS := $(filter-out %/main.o,$(TESTS_SUPPORT_OBJS))
TESTS_LIB := $(V)/lib/libipcdoor.a

# The part of the kernel's fuzzer that needs no kernel.
KFUZZ_TESTABLE_OBJS := $(patsubst %,$(V)/obj/tests/fuzz/kernel/%.o,program mutate)

TESTS_OBJS_unit := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/unit/*.cpp))) \
	$(IRQBENCH_TESTABLE_OBJS) $(KFUZZ_TESTABLE_OBJS)
TESTS_OBJS_uapi := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/uapi/*.cpp)))
TESTS_OBJS_lib := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/lib/*.cpp)))
TESTS_LIBS_unit := $(IRQBENCH_TESTABLE_LIBS)

# Inline functions with steps must have them in all of a program, so lib_support.cpp is
# compiled once more. What this takes of libipcdoor.a is the C interface, which has none.
TESTS_OBJS_crash := $(patsubst %.cpp,$(V)/obj/steps/%.o,$(sort $(wildcard tests/lib/crash/*.cpp)) \
	tests/lib/lib_support.cpp)

TESTS_STRESS_SRCS := $(sort $(wildcard tests/stress/*.cpp))
TESTS_SYSTEM_SRCS := $(sort $(wildcard tests/system/src/*.cpp))
TESTS_STRESS := $(patsubst tests/stress/%.cpp,$(V)/tests/stress/%,$(TESTS_STRESS_SRCS))
TESTS_SYSTEM := $(patsubst tests/system/src/%.cpp,$(V)/tests/system/%,$(TESTS_SYSTEM_SRCS))
TESTS_PROGRAMS := $(addprefix $(V)/tests/,$(TESTS_SUITES) crash) $(TESTS_STRESS) $(TESTS_SYSTEM)

TESTS_OBJS := $(TESTS_SUPPORT_OBJS) \
	$(filter $(V)/obj/tests/%,$(foreach s,$(TESTS_SUITES),$(TESTS_OBJS_$(s)))) \
	$(patsubst %.cpp,$(V)/obj/%.o,$(TESTS_STRESS_SRCS) $(TESTS_SYSTEM_SRCS))

.PHONY: tests
tests: $(TESTS_PROGRAMS) ## build the test programs

$(TESTS_OBJS): $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(TESTS_COMPILE)

$(TESTS_OBJS_crash): TESTS_CPPFLAGS += -DIPCDOOR_STEPS
$(TESTS_OBJS_crash): $(V)/obj/steps/%.o: %.cpp
	@mkdir -p $(@D)
	$(TESTS_COMPILE)

define TESTS_SUITE_RULE
$(V)/tests/$(1): $(TESTS_OBJS_$(1)) $(TESTS_SUPPORT_OBJS) $(TESTS_LIB)
	@mkdir -p $$(@D)
	$$(TESTS_LINK) $(TESTS_LIBS_$(1)) $(TESTS_CATCH_LIBS)
endef
$(foreach s,$(TESTS_SUITES) crash,$(eval $(call TESTS_SUITE_RULE,$(s))))

$(TESTS_STRESS): $(V)/tests/stress/%: $(V)/obj/tests/stress/%.o $(TESTS_HELPER_OBJS) $(TESTS_LIB)
	@mkdir -p $(@D)
	$(TESTS_LINK)

# The system programs speak raw ioctls too.
$(TESTS_SYSTEM): $(V)/tests/system/%: $(V)/obj/tests/system/src/%.o $(V)/obj/tests/uapi/uapi.o \
		$(TESTS_HELPER_OBJS) $(TESTS_LIB)
	@mkdir -p $(@D)
	$(TESTS_LINK)

-include $(TESTS_OBJS:.o=.d) $(TESTS_OBJS_crash:.o=.d)

.PHONY: test-matrix test-debug
test-matrix: tests ## the guest suites on every packaged kernel (K=… for some, LEDGER=1 in pieces)
	@tests/matrix $(if $(LEDGER),--ledger) $(or $(K),packaged)

test-debug: tests ## the guest suites on the debug kernels, built on first use (K=…, LEDGER=1)
	@tests/matrix $(if $(LEDGER),--ledger) $(or $(K),debug)

.PHONY: coverage
coverage: ## line and branch coverage of library and module; pages in $(OUT)/coverage
	@tests/coverage

.PHONY: storms
storms: kmod $(TESTS_SYSTEM) ## the storms in full: 1,000 kills, ten million rings by each source
	IPCDOOR_BUILD=$(abspath $(BUILD)) tests/system/kill-storm.sh
	for source in msi ipi timer direct; do \
		IPCDOOR_BUILD=$(abspath $(BUILD)) IPCDOOR_TEST_SOURCE=$$source \
			IPCDOOR_TEST_RINGS=10000000 tests/system/ring-storm.sh || exit 1; \
	done

# Several at once would only be slower.
.PHONY: mutations
mutations: ## change ipcdoor's own code in many ways: each must be caught by its gate
	@tests/mutations/run

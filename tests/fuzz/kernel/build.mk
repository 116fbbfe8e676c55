# SPDX-License-Identifier: MIT
# Builds $(V)/tests/fuzz/kfuzz, for guests: static, because every program that it tries
# is a fork, and one that maps little forks faster (Fedora: glibc-static,
# libstdc++-static).

KFUZZ_SRCS := $(sort $(wildcard tests/fuzz/kernel/*.cpp))
KFUZZ_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(KFUZZ_SRCS))

FUZZ_SECONDS ?= 600
FUZZ_PROFILE ?= fast

# The others are the unit tests' too, and built by tests/build.mk.
$(filter-out $(KFUZZ_TESTABLE_OBJS),$(KFUZZ_OBJS)): $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(TESTS_COMPILE)

$(V)/tests/fuzz/kfuzz: $(KFUZZ_OBJS)
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -static -pthread -o $@ $^

.PHONY: fuzz-kernel
fuzz-kernel: ## fuzz the kernel interface (FUZZ_SECONDS=600 FUZZ_PROFILE=fast|deep)
	@tests/fuzz/kernel/run --seconds $(FUZZ_SECONDS) --profile $(FUZZ_PROFILE)

-include $(KFUZZ_OBJS:.o=.d)

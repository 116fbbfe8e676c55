# SPDX-License-Identifier: MIT
# Fuzzing of the library's borders with its peers:
#   $(FUZZ)/NAME      libFuzzer with ASan and UBSan, one for each targets/NAME.cpp
#   $(V)/tests/flip   a thread that rewrites shared words beside a working victim
#   $(V)/tests/corpus a Catch2 binary that replays the inputs kept in corpus/
# libFuzzer comes with clang only; the other two are built as all tests are.

FUZZ := $(BUILD)/fuzz
FUZZ_DIR := tests/fuzz/library
FUZZ_CXX ?= clang++
FUZZ_CXXFLAGS := $(CXXSTD) $(WARN) -O2 -g -fno-omit-frame-pointer -pthread \
	-fsanitize=address,undefined -fno-sanitize-recover=all
# Without the callbacks at comparisons, a fifth of the time: they help to guess words
# that are compared with constants, and the inputs' moves write those by themselves.
FUZZ_COVERAGE := -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp
FUZZ_NAMES := $(sort $(basename $(notdir $(wildcard $(FUZZ_DIR)/targets/*.cpp))))
FUZZ_SUPPORT_SRCS := $(filter-out %/replay.cpp %/flip.cpp %/sigaltstack.cpp,$(sort $(wildcard $(FUZZ_DIR)/*.cpp)))
# See poll_hook.hpp.
FUZZ_WRAP := -Wl,--wrap=_ZN7ipcdoor7backend3sys10poll_untilESt4spanI6pollfdLm18446744073709551615EEm
FUZZ_SECONDS ?= 600
# TARGET or TARGET:SHARE, as in ring_consumer:4.
FUZZ_TARGETS ?= $(FUZZ_NAMES) flip

# ---- with clang -------------------------------------------------------------

FUZZ_LIB_OBJS := $(patsubst %.cpp,$(FUZZ)/obj/%.o,$(USERLIB_SRCS) \
	$(filter-out %/flip_victims.cpp,$(FUZZ_SUPPORT_SRCS)) tests/support/temporary_directory.cpp)
FUZZ_FAST_OBJ := $(FUZZ)/obj/$(FUZZ_DIR)/sigaltstack.o
FUZZ_TARGET_OBJS := $(patsubst %,$(FUZZ)/obj/$(FUZZ_DIR)/targets/%.o,$(FUZZ_NAMES))
FUZZ_PROGRAMS := $(addprefix $(FUZZ)/,$(FUZZ_NAMES))

$(FUZZ_LIB_OBJS) $(FUZZ_FAST_OBJ) $(FUZZ_TARGET_OBJS): $(FUZZ)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(FUZZ_CXX) $(FUZZ_CXXFLAGS) $(FUZZ_COVERAGE) $(DEPFLAGS) $(TESTS_CPPFLAGS) -c -o $@ $<

# An archive, so that a target carries the counters of what it uses, no more.
$(FUZZ)/libtested.a: $(FUZZ_LIB_OBJS)
	@rm -f $@
	$(AR) rcs $@ $^

$(FUZZ_PROGRAMS): $(FUZZ)/%: $(FUZZ)/obj/$(FUZZ_DIR)/targets/%.o $(FUZZ_FAST_OBJ) $(FUZZ)/libtested.a
	$(FUZZ_CXX) $(FUZZ_CXXFLAGS) -fsanitize=fuzzer $(FUZZ_WRAP) -o $@ $^

.PHONY: fuzz-programs
fuzz-programs: $(FUZZ_PROGRAMS)

-include $(FUZZ_LIB_OBJS:.o=.d) $(FUZZ_TARGET_OBJS:.o=.d)

.PHONY: fuzz
fuzz: ## fuzz the library for FUZZ_SECONDS, shared by FUZZ_TARGETS
	@tools/setup --fuzz
	@echo "building: fuzz, asan"
	$(SUBMAKE) fuzz-programs
	$(SUBMAKE) VARIANT=asan $(BUILD)/asan/tests/flip
	@IPCDOOR_OUT=$(abspath $(OUT)) $(FUZZ_DIR)/run --seconds $(FUZZ_SECONDS) --jobs $(JOBS) $(FUZZ_TARGETS)

# ---- with the compiler of all tests -----------------------------------------

tests: $(V)/tests/corpus $(V)/tests/flip

# In one program, each target's entry has a name of its own.
FUZZ_REPLAY_OBJS := $(patsubst %,$(V)/obj/$(FUZZ_DIR)/targets/%.o,$(FUZZ_NAMES))
FUZZ_TEST_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(FUZZ_SUPPORT_SRCS))

$(FUZZ_REPLAY_OBJS): $(V)/obj/$(FUZZ_DIR)/targets/%.o: $(FUZZ_DIR)/targets/%.cpp
	@mkdir -p $(@D)
	$(CXX) $(CXXSTD) $(WARN) $(OPT) $(SAN) $(DEPFLAGS) $(TESTS_CPPFLAGS) $(CPPFLAGS) $(CXXFLAGS) \
		-DLLVMFuzzerTestOneInput=ipcdoor_fuzz_$* -pthread -c -o $@ $<

$(FUZZ_TEST_OBJS) $(V)/obj/$(FUZZ_DIR)/flip.o $(V)/obj/$(FUZZ_DIR)/replay.o: $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(TESTS_COMPILE)

$(V)/tests/corpus: $(V)/obj/$(FUZZ_DIR)/replay.o $(FUZZ_REPLAY_OBJS) $(FUZZ_TEST_OBJS) \
		$(TESTS_SUPPORT_OBJS) $(TESTS_LIB)
	@mkdir -p $(@D)
	$(TESTS_LINK) $(FUZZ_WRAP) $(TESTS_CATCH_LIBS)

$(V)/tests/flip: $(V)/obj/$(FUZZ_DIR)/flip.o $(FUZZ_TEST_OBJS) $(TESTS_LIB)
	@mkdir -p $(@D)
	$(TESTS_LINK) $(FUZZ_WRAP)

-include $(FUZZ_REPLAY_OBJS:.o=.d) $(FUZZ_TEST_OBJS:.o=.d) $(V)/obj/$(FUZZ_DIR)/flip.d \
	$(V)/obj/$(FUZZ_DIR)/replay.d

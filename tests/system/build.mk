# SPDX-License-Identifier: MIT
# The larger programs of tests/system, and the campaigns that run them in the debug
# guest. Each campaign adds a line to the ledger (tests/campaign).

TESTS_SYSTEM_SHARED_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/system/src/shared/*.cpp)))
TESTS_SYSTEM_FAULTS_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/system/src/faults/*.cpp)))
TESTS_SYSTEM_RACES_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(sort $(wildcard tests/system/src/races/*.cpp)))
TESTS_SYSTEM_PARTS := $(TESTS_SYSTEM_SHARED_OBJS) $(TESTS_SYSTEM_FAULTS_OBJS) $(TESTS_SYSTEM_RACES_OBJS)

$(TESTS_SYSTEM_PARTS): $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(TESTS_COMPILE)

$(V)/tests/system/fail_nth: $(TESTS_SYSTEM_FAULTS_OBJS) $(TESTS_SYSTEM_SHARED_OBJS)
$(V)/tests/system/races: $(TESTS_SYSTEM_RACES_OBJS) $(TESTS_SYSTEM_SHARED_OBJS)

-include $(TESTS_SYSTEM_PARTS:.o=.d)

# For the campaigns: K, and what each is to do.
DEBUG_K = $(or $(K),6.1-kasan)
KILLS ?= 20000
RACE_ROUNDS ?= 1000
RACE_ACTIONS ?=
# fast: without kmemleak, debug objects and slab poisoning
PROFILE ?= deep
PIECES_PROFILE = $(if $(filter fast,$(PROFILE)),--fast)
TESTS_PIECES = IPCDOOR_KERNEL=$(DEBUG_K) tests/system/pieces

.PHONY: debug-kmod
debug-kmod:
	+@kmod/build "$(BUILD)/kmod" "$(DEBUG_K)" "" $(KMOD_SOURCES)

.PHONY: kills
kills: debug-kmod $(V)/tests/system/kill_storm ## campaign: KILLS=20000 random kills in the debug guest (K=6.1-kasan)
	$(TESTS_PIECES) $(PIECES_PROFILE) kills $(KILLS)

.PHONY: races
races: debug-kmod $(V)/tests/system/races ## campaign: RACE_ROUNDS=1000 of each pair, RACE_ACTIONS=… among them only (K=6.1-kasan)
	$(TESTS_PIECES) $(PIECES_PROFILE) races $(RACE_ROUNDS) $(RACE_ACTIONS)

SECONDS ?= 600
.PHONY: publish-kills
publish-kills: kmod $(V)/tests/stress/publish_kills ## campaign: SECONDS=600 of random kills of a publisher and 64 subscribers (K=…)
	IPCDOOR_KERNEL=$(K) tests/system/pieces publish-kills $(SECONDS)

.PHONY: faults
faults: debug-kmod $(V)/tests/system/fail_nth ## campaign: every fault point of every call fails once (K=6.1-kasan)
	$(TESTS_PIECES) faults

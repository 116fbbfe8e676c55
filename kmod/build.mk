# SPDX-License-Identifier: MIT
# Builds ipcdoor.ko for one kernel: $(BUILD)/kmod/<release>/ipcdoor.ko
#
#   make kmod              for the default kernel of qemu/kernels
#   make kmod K=NAME       for another one of them
#   make kmod KDIR=DIR     for the kernel with these headers, for instance
#                          KDIR=/lib/modules/$(uname -r)/build
#
# The sources are copied beside the objects, so that builds for several kernels
# coexist and the tree stays clean. W=1 and C=1 reach the kernel's own make.

KMOD_SOURCES := $(sort $(shell find kmod -name '*.[chS]' -o -name 'Kbuild*'))

.PHONY: kmod
kmod: ## build the module (K=NAME of qemu/kernels, or KDIR=headers)
	+@kmod/build "$(BUILD)/kmod" "$(K)" "$(KDIR)" $(KMOD_SOURCES)

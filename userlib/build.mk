# SPDX-License-Identifier: MIT
# Builds libipcdoor of one VARIANT:
#   $(V)/lib/libipcdoor.so.0   C symbols only (userlib/libipcdoor.map)
#   $(V)/lib/libipcdoor.so     the link that -lipcdoor finds
#   $(V)/lib/libipcdoor.a

USERLIB_VERSION := $(shell sed -n 's/^\#define IPCDOOR_LIBRARY_VERSION "\(.*\)"/\1/p' \
	userlib/include/ipcdoor.h)
LIBDIR ?= $(PREFIX)/lib

USERLIB_SRCS := $(sort $(wildcard userlib/src/*.cpp))
USERLIB_OBJS := $(patsubst %.cpp,$(V)/obj/%.o,$(USERLIB_SRCS))
USERLIB_CPPFLAGS := -Ikmod/uapi -Iuserlib/include
USERLIB_CXXFLAGS := -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -pthread
# A sanitizer's symbols come from the program, so only then may any be missing.
USERLIB_DEFS := $(if $(SAN),,-Wl,-z,defs)

.PHONY: userlib
userlib: $(V)/lib/libipcdoor.so $(V)/lib/libipcdoor.a ## build the library

$(USERLIB_OBJS): $(V)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(CXXSTD) $(WARN) $(OPT) $(SAN) $(DEPFLAGS) $(USERLIB_CPPFLAGS) $(CPPFLAGS) \
		$(USERLIB_CXXFLAGS) $(CXXFLAGS) -c -o $@ $<

$(V)/lib/libipcdoor.so.0: $(USERLIB_OBJS) userlib/libipcdoor.map
	@mkdir -p $(@D)
	$(CXX) $(OPT) $(SAN) $(LDFLAGS) -shared -pthread -Wl,-soname,libipcdoor.so.0 \
		-Wl,--version-script=userlib/libipcdoor.map $(USERLIB_DEFS) -o $@ $(USERLIB_OBJS)

$(V)/lib/libipcdoor.so: $(V)/lib/libipcdoor.so.0
	ln -sf libipcdoor.so.0 $@

$(V)/lib/libipcdoor.a: $(USERLIB_OBJS)
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $(USERLIB_OBJS)

# Headers are found by pattern, so that their owners need not list them here.
install:: $(V)/lib/libipcdoor.so.0 $(V)/lib/libipcdoor.a
	install -d $(DESTDIR)$(PREFIX)/include/ipcdoor $(DESTDIR)$(PREFIX)/include/linux \
		$(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 0644 userlib/include/ipcdoor.h userlib/include/ipcdoor_rpc.h $(DESTDIR)$(PREFIX)/include/
	cd userlib/include && find ipcdoor -type f -name '*.hpp' \
		-exec install -D -m 0644 {} $(abspath $(DESTDIR)$(PREFIX))/include/{} \;
	install -m 0644 kmod/uapi/linux/ipcdoor.h $(DESTDIR)$(PREFIX)/include/linux/
	install -m 0755 $(V)/lib/libipcdoor.so.0 $(DESTDIR)$(LIBDIR)/libipcdoor.so.$(USERLIB_VERSION)
	ln -sf libipcdoor.so.$(USERLIB_VERSION) $(DESTDIR)$(LIBDIR)/libipcdoor.so.0
	ln -sf libipcdoor.so.0 $(DESTDIR)$(LIBDIR)/libipcdoor.so
	install -m 0644 $(V)/lib/libipcdoor.a $(DESTDIR)$(LIBDIR)/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(USERLIB_VERSION)|' \
		userlib/ipcdoor.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/ipcdoor.pc
	chmod 0644 $(DESTDIR)$(LIBDIR)/pkgconfig/ipcdoor.pc

uninstall::
	rm -rf $(DESTDIR)$(PREFIX)/include/ipcdoor
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/include/,ipcdoor.h ipcdoor_rpc.h linux/ipcdoor.h)
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/libipcdoor.,a so so.0 so.$(USERLIB_VERSION))
	rm -f $(DESTDIR)$(LIBDIR)/pkgconfig/ipcdoor.pc

-include $(USERLIB_OBJS:.o=.d)

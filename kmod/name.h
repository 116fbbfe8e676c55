/* SPDX-License-Identifier: GPL-2.0 */
/* The directory of names: segments and listeners by (network namespace, user, label). */
#ifndef IPCDOOR_NAME_H
#define IPCDOOR_NAME_H

#include <linux/types.h>
#include <linux/uidgid.h>

#include <linux/ipcdoor.h>

struct ipcdoor_name;
struct ipcdoor_listener;
struct ipcdoor_segment;

enum ipcdoor_name_kind {
	IPCDOOR_NAME_SEGMENT,
	IPCDOOR_NAME_LISTENER,
};

/* Who may use a name; validated by ipcdoor_access_init(). */
struct ipcdoor_access {
	kuid_t uid;
	kgid_t gid;
	u16 mode;	/* permission bits, 0666 at most */
};

/*
 * Translates a caller's mode, uid and gid (~0: the caller's own).  -EINVAL for
 * other bits or ids that do not exist, -EPERM for ids that are not theirs to
 * give.
 */
int ipcdoor_access_init(struct ipcdoor_access *access, u32 mode, u32 uid, u32 gid);

/*
 * Enters @object under @text ("LABEL" or the caller's own "UID/LABEL").  The
 * entry holds no reference: the object removes it before it goes.
 * ERR_PTR: -EINVAL malformed, -EPERM another user's, -EEXIST taken, -ENOMEM.
 */
struct ipcdoor_name *ipcdoor_name_add(const char *text, enum ipcdoor_name_kind kind,
				      void *object, const struct ipcdoor_access *access);

/* Takes the entry away; NULL is allowed. */
void ipcdoor_name_remove(struct ipcdoor_name *name);

/*
 * The object under @text with a reference.  @may is MAY_READ and MAY_WRITE as
 * needed.  ERR_PTR: -EINVAL malformed, -ENOENT none, -EPROTOTYPE of the other
 * kind, -EACCES no permission.
 */
struct ipcdoor_segment *ipcdoor_name_segment(const char *text, int may);
struct ipcdoor_listener *ipcdoor_name_listener(const char *text, int may);

#endif /* IPCDOOR_NAME_H */

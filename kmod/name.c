// SPDX-License-Identifier: GPL-2.0
/*
 * Names belong to a network namespace, and in it each user's labels are their
 * own, so nobody can squat on another's.  A bare label means the caller's own,
 * and where there is none, root's: root serves everybody.
 *
 * ipcdoor_names_lock protects the table, and is held while a reference to the
 * object found is taken; objects remove their names before they are freed.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/kernel.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/slab.h>
#include <linux/stringhash.h>
#include <net/net_namespace.h>

#include "listener.h"
#include "name.h"
#include "segment.h"

struct ipcdoor_name {
	struct hlist_node node;
	struct net *net;
	kuid_t user;
	enum ipcdoor_name_kind kind;
	void *object;
	struct ipcdoor_access access;
	char label[IPCDOOR_NAME_MAX];
};

/* what a caller wrote, taken apart */
struct ipcdoor_name_query {
	struct net *net;
	kuid_t user;
	bool bare;
	const char *label;
};

static DEFINE_HASHTABLE(ipcdoor_names, 8);
static DEFINE_MUTEX(ipcdoor_names_lock);

int ipcdoor_access_init(struct ipcdoor_access *access, u32 mode, u32 uid, u32 gid)
{
	const struct cred *cred = current_cred();

	if (mode & ~0666U)
		return -EINVAL;
	access->mode = mode;
	access->uid = cred->euid;
	access->gid = cred->egid;
	if (uid != ~0U) {
		access->uid = make_kuid(cred->user_ns, uid);
		if (!uid_valid(access->uid))
			return -EINVAL;
		if (!uid_eq(access->uid, cred->euid) && !ns_capable(cred->user_ns, CAP_CHOWN))
			return -EPERM;
	}
	if (gid != ~0U) {
		access->gid = make_kgid(cred->user_ns, gid);
		if (!gid_valid(access->gid))
			return -EINVAL;
		if (!in_egroup_p(access->gid) && !ns_capable(cred->user_ns, CAP_CHOWN))
			return -EPERM;
	}
	return 0;
}

static bool ipcdoor_access_allows(const struct ipcdoor_name *name, int may)
{
	const struct ipcdoor_access *access = &name->access;
	int granted = access->mode;

	if (uid_eq(access->uid, current_euid()))
		granted >>= 6;
	else if (in_egroup_p(access->gid))
		granted >>= 3;
	if (!(may & ~granted))
		return true;
	return ns_capable(name->net->user_ns, CAP_IPC_OWNER);
}

static bool ipcdoor_label_valid(const char *label)
{
	if (!*label || *label == '.')
		return false;
	for (; *label; label++)
		if (!isascii(*label) ||
		    (!isalnum(*label) && *label != '.' && *label != '_' && *label != '-'))
			return false;
	return true;
}

static int ipcdoor_name_parse(const char *text, struct ipcdoor_name_query *query)
{
	const char *slash = strchr(text, '/');
	char digits[11];
	u32 uid;

	query->net = current->nsproxy->net_ns;
	query->user = current_euid();
	query->bare = !slash;
	query->label = slash ? slash + 1 : text;
	if (!ipcdoor_label_valid(query->label))
		return -EINVAL;
	if (!slash)
		return 0;

	if (slash == text || slash - text >= sizeof(digits) || !isdigit(*text))
		return -EINVAL;
	memcpy(digits, text, slash - text);
	digits[slash - text] = '\0';
	if (kstrtou32(digits, 10, &uid))
		return -EINVAL;
	query->user = make_kuid(current_user_ns(), uid);
	return uid_valid(query->user) ? 0 : -EINVAL;
}

static u32 ipcdoor_name_hash(const struct net *net, kuid_t user, const char *label)
{
	return full_name_hash(net, label, strlen(label)) ^ __kuid_val(user);
}

static struct ipcdoor_name *ipcdoor_name_find(const struct net *net, kuid_t user,
					      const char *label)
{
	struct ipcdoor_name *name;

	lockdep_assert_held(&ipcdoor_names_lock);
	hash_for_each_possible(ipcdoor_names, name, node, ipcdoor_name_hash(net, user, label))
		if (name->net == net && uid_eq(name->user, user) &&
		    !strcmp(name->label, label))
			return name;
	return NULL;
}

struct ipcdoor_name *ipcdoor_name_add(const char *text, enum ipcdoor_name_kind kind,
				      void *object, const struct ipcdoor_access *access)
{
	struct ipcdoor_name_query query;
	struct ipcdoor_name *name;
	int err;

	err = ipcdoor_name_parse(text, &query);
	if (err)
		return ERR_PTR(err);
	if (!uid_eq(query.user, current_euid()))
		return ERR_PTR(-EPERM);

	name = kzalloc(sizeof(*name), GFP_KERNEL_ACCOUNT);
	if (!name)
		return ERR_PTR(-ENOMEM);
	name->user = query.user;
	name->kind = kind;
	name->object = object;
	name->access = *access;
	strscpy(name->label, query.label, sizeof(name->label));

	mutex_lock(&ipcdoor_names_lock);
	if (ipcdoor_name_find(query.net, name->user, name->label)) {
		mutex_unlock(&ipcdoor_names_lock);
		kfree(name);
		return ERR_PTR(-EEXIST);
	}
	name->net = get_net(query.net);
	hash_add(ipcdoor_names, &name->node,
		 ipcdoor_name_hash(name->net, name->user, name->label));
	mutex_unlock(&ipcdoor_names_lock);
	return name;
}

void ipcdoor_name_remove(struct ipcdoor_name *name)
{
	if (!name)
		return;
	mutex_lock(&ipcdoor_names_lock);
	hash_del(&name->node);
	mutex_unlock(&ipcdoor_names_lock);
	put_net(name->net);
	kfree(name);
}

/* Under the lock: the entry that @text means for the caller, checked. */
static struct ipcdoor_name *ipcdoor_name_resolve(const char *text, enum ipcdoor_name_kind kind,
						 int may)
{
	struct ipcdoor_name_query query;
	struct ipcdoor_name *name;
	int err;

	err = ipcdoor_name_parse(text, &query);
	if (err)
		return ERR_PTR(err);
	name = ipcdoor_name_find(query.net, query.user, query.label);
	if (!name && query.bare)
		name = ipcdoor_name_find(query.net, make_kuid(query.net->user_ns, 0), query.label);
	if (!name)
		return ERR_PTR(-ENOENT);
	if (!ipcdoor_access_allows(name, may))
		return ERR_PTR(-EACCES);
	if (name->kind != kind)
		return ERR_PTR(-EPROTOTYPE);
	return name;
}

struct ipcdoor_segment *ipcdoor_name_segment(const char *text, int may)
{
	struct ipcdoor_segment *seg;
	struct ipcdoor_name *name;

	mutex_lock(&ipcdoor_names_lock);
	name = ipcdoor_name_resolve(text, IPCDOOR_NAME_SEGMENT, may);
	seg = IS_ERR(name) ? ERR_CAST(name) : ipcdoor_segment_get(name->object);
	mutex_unlock(&ipcdoor_names_lock);
	return seg;
}

struct ipcdoor_listener *ipcdoor_name_listener(const char *text, int may)
{
	struct ipcdoor_listener *listener;
	struct ipcdoor_name *name;

	mutex_lock(&ipcdoor_names_lock);
	name = ipcdoor_name_resolve(text, IPCDOOR_NAME_LISTENER, may);
	listener = IS_ERR(name) ? ERR_CAST(name) : ipcdoor_listener_get(name->object);
	mutex_unlock(&ipcdoor_names_lock);
	return listener;
}

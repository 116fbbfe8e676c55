// SPDX-License-Identifier: GPL-2.0
/*
 * A stand-in for the module that misbehaves on demand, to show that the harness
 * notices: write the name of a misdeed to /dev/ipcdoor0.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>

static bool refuse;
module_param(refuse, bool, 0444);
MODULE_PARM_DESC(refuse, "fail to load");

/* What the compiler must not find out. */
static int eight = 8;
static int seventy = 70;

/* ---- misdeeds: each is for one detector ---- */

static void selftest_warn(void)
{
	WARN(1, "planted warning\n");
}

static void selftest_oops(void)
{
	WRITE_ONCE(*(int *)8, 1);
}

static void selftest_module_leak(void)
{
	__module_get(THIS_MODULE);
}

/* KASAN */
static void selftest_use_after_free(void)
{
	int *word = kmalloc(sizeof(*word), GFP_KERNEL);

	kfree(word);
	OPTIMIZER_HIDE_VAR(word);
	WRITE_ONCE(*word, 1);
}

static void selftest_out_of_bounds(void)
{
	char *bytes = kmalloc(8, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(bytes);
	if (bytes)
		WRITE_ONCE(bytes[READ_ONCE(eight)], 1);
	kfree(bytes);
}

/* UBSAN */
static void selftest_shift(void)
{
	pr_info("%d\n", 1 << READ_ONCE(seventy));
}

static void selftest_index(void)
{
	static int words[8];

	pr_info("%d\n", words[READ_ONCE(eight)]);
}

/* lockdep */
static DEFINE_MUTEX(selftest_first);
static DEFINE_MUTEX(selftest_second);

static void selftest_inversion(void)
{
	mutex_lock(&selftest_first);
	mutex_lock(&selftest_second);
	mutex_unlock(&selftest_second);
	mutex_unlock(&selftest_first);

	mutex_lock(&selftest_second);
	mutex_lock(&selftest_first);
	mutex_unlock(&selftest_first);
	mutex_unlock(&selftest_second);
}

static DEFINE_RAW_SPINLOCK(selftest_raw);
static DEFINE_SPINLOCK(selftest_lock);

/* lockdep: a lock that sleeps on PREEMPT_RT inside one that never does */
static void selftest_nesting(void)
{
	raw_spin_lock(&selftest_raw);
	spin_lock(&selftest_lock);
	spin_unlock(&selftest_lock);
	raw_spin_unlock(&selftest_raw);
}

/* DEBUG_ATOMIC_SLEEP; it does not really sleep, which the guest might not survive */
static void selftest_atomic_sleep(void)
{
	raw_spin_lock(&selftest_raw);
	might_sleep();
	raw_spin_unlock(&selftest_raw);
}

/* kmemleak */
static void selftest_memory_leak(void)
{
	void *lost = kmalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(lost);
}

/* DEBUG_OBJECTS */
struct selftest_object {
	struct timer_list timer;
};

static void selftest_timer_fired(struct timer_list *timer)
{
}

static void selftest_active_object(void)
{
	struct selftest_object *object = kzalloc(sizeof(*object), GFP_KERNEL);

	if (!object)
		return;
	timer_setup(&object->timer, selftest_timer_fired, 0);
	mod_timer(&object->timer, jiffies + 60 * HZ);
	kfree(object);
}

/* reference counts and lists, which check themselves */
static void selftest_refcount(void)
{
	refcount_t refs = REFCOUNT_INIT(1);

	if (refcount_dec_and_test(&refs))
		refcount_inc(&refs);
}

static void selftest_list(void)
{
	LIST_HEAD(list);
	struct list_head node;

	list_add(&node, &list);
	list_add(&node, &list);
}

/* KCSAN */
static int selftest_racy;

static int selftest_race_thread(void *unused)
{
	int i;

	for (i = 0; i < 2000000 && !kthread_should_stop(); i++) {
		selftest_racy++;
		barrier();
		if (!(i % 1000))
			cond_resched();
	}
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static void selftest_race(void)
{
	struct task_struct *other = kthread_run(selftest_race_thread, NULL, "selftest-race");
	int i;

	if (IS_ERR(other))
		return;
	for (i = 0; i < 2000000; i++) {
		selftest_racy++;
		barrier();
		if (!(i % 1000))
			cond_resched();
	}
	kthread_stop(other);
}

static const struct {
	const char *name;
	void (*commit)(void);
} selftest_misdeeds[] = {
	{ "warn", selftest_warn },
	{ "oops", selftest_oops },
	{ "module-leak", selftest_module_leak },
	{ "use-after-free", selftest_use_after_free },
	{ "out-of-bounds", selftest_out_of_bounds },
	{ "shift", selftest_shift },
	{ "index", selftest_index },
	{ "inversion", selftest_inversion },
	{ "nesting", selftest_nesting },
	{ "atomic-sleep", selftest_atomic_sleep },
	{ "memory-leak", selftest_memory_leak },
	{ "active-object", selftest_active_object },
	{ "refcount", selftest_refcount },
	{ "list", selftest_list },
	{ "race", selftest_race },
};

static ssize_t selftest_write(struct file *file, const char __user *buffer,
			      size_t size, loff_t *offset)
{
	char name[24] = "";
	size_t i;

	if (size >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, buffer, size))
		return -EFAULT;
	strim(name);
	for (i = 0; i < ARRAY_SIZE(selftest_misdeeds); i++) {
		if (!strcmp(name, selftest_misdeeds[i].name)) {
			selftest_misdeeds[i].commit();
			return size;
		}
	}
	return -EINVAL;
}

static const struct file_operations selftest_operations = {
	.owner = THIS_MODULE,
	.write = selftest_write,
};

static struct miscdevice selftest_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ipcdoor0",
	.fops = &selftest_operations,
	.mode = 0666,
};

static int __init selftest_init(void)
{
	return refuse ? -ENODEV : misc_register(&selftest_device);
}
module_init(selftest_init);

static void __exit selftest_exit(void)
{
	misc_deregister(&selftest_device);
}
module_exit(selftest_exit);

MODULE_DESCRIPTION("Misbehaving stand-in for the harness's own test");
MODULE_LICENSE("GPL");

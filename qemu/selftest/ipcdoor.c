// SPDX-License-Identifier: GPL-2.0
/*
 * A stand-in for the module that misbehaves on demand, to show that the harness
 * notices: write the name of a misdeed to /dev/ipcdoor0.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

static bool refuse;
module_param(refuse, bool, 0444);
MODULE_PARM_DESC(refuse, "fail to load");

static DEFINE_SPINLOCK(lock);

static ssize_t selftest_write(struct file *file, const char __user *buffer,
			      size_t size, loff_t *offset)
{
	char name[16] = "";

	if (size >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, buffer, size))
		return -EFAULT;
	strim(name);
	if (!strcmp(name, "warn")) {
		WARN(1, "planted warning\n");
	} else if (!strcmp(name, "oops")) {
		WRITE_ONCE(*(int *)8, 1);
	} else if (!strcmp(name, "atomic")) {
		spin_lock(&lock);
		schedule_timeout_interruptible(1);
		spin_unlock(&lock);
	} else if (!strcmp(name, "leak")) {
		__module_get(THIS_MODULE);
	} else {
		return -EINVAL;
	}
	return size;
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

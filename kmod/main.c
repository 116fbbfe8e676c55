// SPDX-License-Identifier: GPL-2.0
/*
 * ipcdoor: shared pages and interrupt-driven doorbells for user processes.
 *
 * This file is the order of initialisation and its exact reverse.  The node
 * comes last and goes first: nobody gets in before everything is there, and
 * every descriptor holds the module.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>

#include "budget.h"
#include "chardev.h"
#include "endpoint.h"
#include "owner.h"
#include "pages.h"
#include "source.h"
#include "version.h"

static int __init ipcdoor_init(void)
{
	int err;

	ipcdoor_budget_calibrate();
	err = ipcdoor_pages_init();
	if (err)
		return err;
	err = ipcdoor_endpoints_init();
	if (err)
		return err;
	err = ipcdoor_source_direct_init();
	if (err)
		goto err_direct;
	err = ipcdoor_source_ipi_init();
	if (err)
		goto err_ipi;
	err = ipcdoor_source_timer_init();
	if (err)
		goto err_timer;
	err = ipcdoor_source_edu_init();
	if (err)
		goto err_edu;
	err = ipcdoor_source_check_default();
	if (err)
		goto err_default;
	err = ipcdoor_chardev_init();
	if (err)
		goto err_default;
	return 0;

err_default:
	ipcdoor_source_edu_exit();
err_edu:
	ipcdoor_source_timer_exit();
err_timer:
	ipcdoor_source_ipi_exit();
err_ipi:
	ipcdoor_source_direct_exit();
err_direct:
	ipcdoor_endpoints_exit();
	return err;
}

static void __exit ipcdoor_exit(void)
{
	ipcdoor_chardev_exit();
	ipcdoor_source_edu_exit();
	ipcdoor_source_timer_exit();
	ipcdoor_source_ipi_exit();
	ipcdoor_source_direct_exit();
	ipcdoor_endpoints_exit();
	ipcdoor_owner_exit();
}

module_init(ipcdoor_init);
module_exit(ipcdoor_exit);

MODULE_DESCRIPTION("Shared pages and interrupt-driven doorbells for user processes");
MODULE_AUTHOR("The ipcdoor authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(IPCDOOR_MODULE_VERSION);

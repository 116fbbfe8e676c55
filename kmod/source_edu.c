// SPDX-License-Identifier: GPL-2.0
/*
 * Source `msi`: QEMU's educational PCI device, a loopback.  A write to its
 * raise register sends an MSI; the handler acknowledges it and delivers to the
 * endpoints that were rung.  One device is used, the first.
 *
 * ipcdoor_edu is read under RCU by the ringers and written by probe and remove,
 * which the driver core keeps apart.
 */
#include <linux/interrupt.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>

#include <linux/ipcdoor.h>

#include "doorbell.h"
#include "endpoint.h"
#include "source.h"

#define EDU_VENDOR_ID		0x1234
#define EDU_DEVICE_ID		0x11e8
#define EDU_REG_ID		0x00	/* 0xRRrr00ed */
#define EDU_REG_IRQ_RAISE	0x60
#define EDU_REG_IRQ_ACK		0x64
#define EDU_BAR_BYTES		0x68
#define EDU_IRQ_DOORBELL	1U	/* any bit will do */

struct ipcdoor_edu {
	void __iomem *bar;
	struct llist_head rung;	/* endpoints by irq.msi_node */
};

static struct ipcdoor_edu __rcu *ipcdoor_edu;

/* of the last interrupt; the administrator may move it */
static unsigned int ipcdoor_edu_cpu;

static void ipcdoor_edu_deliver(struct ipcdoor_edu *edu)
{
	struct ipcdoor_endpoint *ep, *next;
	struct llist_node *list;

	list = llist_reverse_order(llist_del_all(&edu->rung));
	/* the node is free for the next ring as soon as the handler has run */
	llist_for_each_entry_safe(ep, next, list, irq.msi_node)
		ipcdoor_doorbell_interrupt(ep);
}

static irqreturn_t ipcdoor_edu_irq(int irq, void *data)
{
	struct ipcdoor_edu *edu = data;

	WRITE_ONCE(ipcdoor_edu_cpu, smp_processor_id());
	/* acknowledge first: whoever is added after this raises anew */
	writel(EDU_IRQ_DOORBELL, edu->bar + EDU_REG_IRQ_ACK);
	ipcdoor_edu_deliver(edu);
	return IRQ_HANDLED;
}

static int ipcdoor_edu_raise(struct ipcdoor_endpoint *ep, unsigned int cpu)
{
	struct ipcdoor_edu *edu;
	int err = -ENODEV;

	rcu_read_lock();
	edu = rcu_dereference(ipcdoor_edu);
	if (edu) {
		/* whoever adds the first one raises for all that follow */
		if (llist_add(&ep->irq.msi_node, &edu->rung))
			writel(EDU_IRQ_DOORBELL, edu->bar + EDU_REG_IRQ_RAISE);
		err = 0;
	}
	rcu_read_unlock();
	return err;
}

static const struct ipcdoor_source ipcdoor_source_msi = {
	.name = "msi",
	.id = IPCDOOR_SOURCE_MSI,
	.rank = 3,
	.raise = ipcdoor_edu_raise,
	.lands_on = &ipcdoor_edu_cpu,
};

static int ipcdoor_edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct ipcdoor_edu *edu;
	int err;

	if (rcu_access_pointer(ipcdoor_edu)) {
		dev_info(&pdev->dev, "only the first edu device is used\n");
		return -EBUSY;
	}
	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	init_llist_head(&edu->rung);

	err = pcim_enable_device(pdev);
	if (err)
		return dev_err_probe(&pdev->dev, err, "cannot enable the device\n");
	if (pci_resource_len(pdev, 0) < EDU_BAR_BYTES)
		return dev_err_probe(&pdev->dev, -ENXIO, "BAR 0 has %llu bytes, expected %u\n",
				     (u64)pci_resource_len(pdev, 0), EDU_BAR_BYTES);
	edu->bar = pcim_iomap(pdev, 0, 0);
	if (!edu->bar)
		return dev_err_probe(&pdev->dev, -ENOMEM, "cannot map BAR 0\n");
	if ((readl(edu->bar + EDU_REG_ID) & 0xffff) != 0x00ed)
		return dev_err_probe(&pdev->dev, -ENXIO, "not an edu device: id %#x\n",
				     readl(edu->bar + EDU_REG_ID));

	/* without bus mastering the device cannot send its MSI */
	pci_set_master(pdev);
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI);
	if (err < 0)
		return dev_err_probe(&pdev->dev, err, "no MSI vector\n");
	err = request_irq(pci_irq_vector(pdev, 0), ipcdoor_edu_irq, IRQF_NO_THREAD,
			  "ipcdoor-edu", edu);
	if (err) {
		pci_free_irq_vectors(pdev);
		return dev_err_probe(&pdev->dev, err, "cannot request the MSI\n");
	}
	pci_set_drvdata(pdev, edu);
	rcu_assign_pointer(ipcdoor_edu, edu);
	err = ipcdoor_source_register(&ipcdoor_source_msi);
	if (err) {
		RCU_INIT_POINTER(ipcdoor_edu, NULL);
		free_irq(pci_irq_vector(pdev, 0), edu);
		pci_free_irq_vectors(pdev);
		return err;
	}
	return 0;
}

static void ipcdoor_edu_remove(struct pci_dev *pdev)
{
	struct ipcdoor_edu *edu = pci_get_drvdata(pdev);

	ipcdoor_source_unregister(&ipcdoor_source_msi);
	RCU_INIT_POINTER(ipcdoor_edu, NULL);
	synchronize_rcu();
	free_irq(pci_irq_vector(pdev, 0), edu);
	/* those whose interrupt was still to come; their endpoints are dead */
	local_irq_disable();
	ipcdoor_edu_deliver(edu);
	local_irq_enable();
	pci_free_irq_vectors(pdev);
}

static const struct pci_device_id ipcdoor_edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, ipcdoor_edu_ids);

static struct pci_driver ipcdoor_edu_driver = {
	.name = "ipcdoor-edu",
	.id_table = ipcdoor_edu_ids,
	.probe = ipcdoor_edu_probe,
	.remove = ipcdoor_edu_remove,
};

int ipcdoor_source_edu_init(void)
{
	return pci_register_driver(&ipcdoor_edu_driver);
}

void ipcdoor_source_edu_exit(void)
{
	pci_unregister_driver(&ipcdoor_edu_driver);
}

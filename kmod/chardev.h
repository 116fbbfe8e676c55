/* SPDX-License-Identifier: GPL-2.0 */
/* The device nodes. */
#ifndef IPCDOOR_CHARDEV_H
#define IPCDOOR_CHARDEV_H

int ipcdoor_chardev_init(void);
void ipcdoor_chardev_exit(void);

#endif /* IPCDOOR_CHARDEV_H */

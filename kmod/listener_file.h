/* SPDX-License-Identifier: GPL-2.0 */
/* The descriptor of a listener: accept, poll. */
#ifndef IPCDOOR_LISTENER_FILE_H
#define IPCDOOR_LISTENER_FILE_H

#include <linux/types.h>

struct ipcdoor_listener;

/* Takes over the caller's reference, closes it on failure.  Number or -errno. */
int ipcdoor_listener_file_install(struct ipcdoor_listener *listener, bool nonblock);

#endif /* IPCDOOR_LISTENER_FILE_H */

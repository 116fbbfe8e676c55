/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IPCDOOR_VERSION_H
#define IPCDOOR_VERSION_H

#define IPCDOOR_MODULE_VERSION "0.1.0"

#endif /* IPCDOOR_VERSION_H */

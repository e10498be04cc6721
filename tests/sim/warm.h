// SPDX-License-Identifier: Apache-2.0
/* Connections to simulated disks that are kept when a crash kills their process: see warm.c. Nobody
 * calls it: SQLite's functions are wrapped by the linker. */
#ifndef SIM_WARM_H
#define SIM_WARM_H

struct simvfs;
/* Before the disk is freed. */
void warm_free(struct simvfs *disk);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h: what was written and not synced when a process dies may be gone, at the end
 * of each file. */
#ifndef TOW_SIM_DISK_H
#define TOW_SIM_DISK_H

void sim_disk_kill(int process);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* How the kernel shares out the CPU to this process. */
#pragma once

/* The calling thread asks for turns as short as the kernel gives them (0.1 ms); threads and
 * processes that it makes from now on do not. Such a turn comes sooner when the thread wakes up,
 * and gets no more of the CPU: for loops that do little at a time and are waited for.
 * sched_setattr(2), sched_runtime of SCHED_OTHER: Linux 6.12, before that it changes nothing. Needs
 * no privilege; what is refused stays as it was. */
void dbx_sched_short_slices(void);

/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a process, from the queue to its end. Only while leading. */
#pragma once

#include "scheduler/sched.h"
#include "scheduler/store.h"

void sched_pump(struct sched *s);      /* places what can be placed */
void sched_pump_soon(struct sched *s); /* once, later in this turn of the loop */
void sched_start(struct sched *s,
                 struct sched_proc *sp); /* STARTING: sends `start`, again if need be */
void sched_started(struct sched *s, struct sched_proc *sp, int64_t at_us,
                   const struct sched_target *t);
/* outcome is taken. ran: it was started, however that became known. target may be NULL. */
void sched_end(struct sched *s, struct sched_proc *sp, enum dbx_verdict v, char *outcome, bool ran,
               const struct sched_target *t);
void sched_lost(struct sched *s, struct sched_proc *sp); /* its node is, or has forgotten it */
void sched_cancel(struct sched *s, struct sched_proc *sp);
void sched_send_cancel(struct sched *s, struct sched_proc *sp);

sched_committed sched_on_placed, sched_on_started, sched_on_ended;

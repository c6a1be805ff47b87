/* SPDX-License-Identifier: Apache-2.0 */
/* Who leads: a session that holds an advisory lock, and an epoch that it took while holding it. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct sched_leader;

struct sched_leader_handlers {
    void (*on_lead)(int64_t epoch, void *user);
    void (*on_lost)(const char *why, void *user); /* only after on_lead */
};

struct sched_leader *sched_leader_new(struct dbx_loop *loop, const char *conninfo,
                                      const struct sched_leader_handlers *h, void *user);
/* Gives up the lock, and tries again later; on_lost is not called. */
void sched_leader_resign(struct sched_leader *ld);
struct sched_leader *
sched_leader_free(struct sched_leader *ld); /* the session, and with it the lock, is gone */
bool sched_leader_connected(const struct sched_leader *ld);

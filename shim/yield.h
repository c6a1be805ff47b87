/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes of batches run when nobody else wants the CPU, and that may be never. So a few times a
 * second it is looked at what they got. Who wanted some and got less than a tenth goes a step up in
 * weight, who got more than a third (others have left it, or it weighs enough to take from them)
 * back to the end. Those in the background are looked at, and lifted, as a whole: so what one
 * needed to be lifted to, the next has from its beginning, however short they live. */
#pragma once

#include "common/base/list.h"
#include "shim/cgroup.h"

struct dbx_loop;
struct shim_yields;

/* One sandbox; part of it. All zero: it does not yield. */
struct shim_yield {
    struct dbx_list link;
    struct shim_yields *of; /* borrowed; NULL: it does not */
    struct shim_cgroup *cg; /* borrowed */
    enum shim_weight weight;
    uint64_t us; /* of CPU, when it was last looked at */
    bool rests;  /* nobody is in it: it wants nothing */
};

struct shim_yields *shim_yields_new(struct dbx_loop *loop, struct shim_cgroups *cgroups,
                                    uint32_t cpus);
struct shim_yields *shim_yields_free(struct shim_yields *ys); /* nobody yields any more */

/* It is idle from now on, and looked after; its cgroup must outlive that. -errno: its weight stays
 * as it was. */
int shim_yield_begin(struct shim_yields *ys, struct shim_yield *y, struct shim_cgroup *cg);
/* Its weight stays as it is. Nothing happens when it does not yield. */
void shim_yield_end(struct shim_yield *y);

/* What the timer does; for tests. */
void shim_yields_look(struct shim_yields *ys, uint64_t passed_us);

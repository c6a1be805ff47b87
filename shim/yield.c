/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/yield.h"

#include "common/base/clock.h"
#include "common/io/loop.h"

#include <stdlib.h>

/* The whole way up takes three of these. A run that is waited for is over before it is through. */
#define LOOK_MS 200
#define LITTLE(could_us) ((could_us) / 10)
#define ENOUGH(could_us) ((could_us) / 3)

struct shim_yields {
    struct shim_cgroups *cgroups; /* borrowed */
    struct dbx_list all;
    struct dbx_timer *timer; /* owned; runs while there are any */
    uint64_t looked_ns;
    uint32_t cpus;
    enum shim_weight weight; /* of the background */
    uint64_t us;             /* that it got */
};

static enum shim_weight next_weight(enum shim_weight w, uint64_t got_us, uint64_t could_us)
{
    if (got_us < LITTLE(could_us))
        return w == SHIM_WEIGHT_FULL ? w : w - 1;
    return got_us > ENOUGH(could_us) ? SHIM_WEIGHT_IDLE : w;
}

/* One that stands among those that are waited for; it may want one processor, or more. */
static void look_at(struct shim_yield *y, uint64_t passed_us)
{
    struct shim_cgroup_stat st;
    if (shim_cgroup_spent(y->cg, &st) < 0)
        return;
    uint64_t got_us = st.cpu_us - y->us;
    enum shim_weight w = y->rests ? SHIM_WEIGHT_IDLE : next_weight(y->weight, got_us, passed_us);
    y->us = st.cpu_us;
    if (w != y->weight && shim_cgroup_set_weight(y->cg, w) == 0)
        y->weight = w;
}

/* want: who may want a processor. Who got none while others there did only wanted none. */
static void look_at_background(struct shim_yields *ys, uint64_t passed_us, uint32_t want)
{
    uint64_t us;
    if (shim_cgroups_got(ys->cgroups, &us) < 0)
        return;
    uint64_t got_us = us - ys->us;
    enum shim_weight w = SHIM_WEIGHT_IDLE;
    if (want)
        w = next_weight(ys->weight, got_us, passed_us * (want < ys->cpus ? want : ys->cpus));
    ys->us = us;
    if (w != ys->weight && shim_cgroups_lift(ys->cgroups, w) == 0)
        ys->weight = w;
}

void shim_yields_look(struct shim_yields *ys, uint64_t passed_us)
{
    struct dbx_list *it, *tmp;
    uint32_t want = 0;
    dbx_list_each(it, tmp, &ys->all)
    {
        struct shim_yield *y = dbx_list_entry(it, struct shim_yield, link);
        if (shim_cgroup_in_background(y->cg))
            want += !y->rests;
        else
            look_at(y, passed_us);
    }
    look_at_background(ys, passed_us, want);
}

static void on_look(void *user)
{
    struct shim_yields *ys = user;
    uint64_t now = dbx_now_ns(), passed_us = (now - ys->looked_ns) / 1000;
    ys->looked_ns = now;
    shim_yields_look(ys, passed_us);
}

struct shim_yields *shim_yields_new(struct dbx_loop *loop, struct shim_cgroups *cgroups,
                                    uint32_t cpus)
{
    struct shim_yields *ys = DBX_NEW(struct shim_yields);
    ys->cgroups = cgroups;
    ys->cpus = cpus;
    ys->weight = SHIM_WEIGHT_IDLE;
    dbx_list_init(&ys->all);
    ys->timer = dbx_timer_new(loop, on_look, ys);
    return ys;
}

struct shim_yields *shim_yields_free(struct shim_yields *ys)
{
    if (!ys)
        return NULL;
    while (!dbx_list_empty(&ys->all)) {
        struct shim_yield *y = dbx_list_first(&ys->all, struct shim_yield, link);
        y->of = NULL;
        dbx_list_remove(&y->link);
    }
    dbx_timer_free(ys->timer);
    free(ys);
    return NULL;
}

int shim_yield_begin(struct shim_yields *ys, struct shim_yield *y, struct shim_cgroup *cg)
{
    struct shim_cgroup_stat st;
    int r = shim_cgroup_set_weight(cg, SHIM_WEIGHT_IDLE);
    *y = (struct shim_yield){.of = ys, .cg = cg, .weight = SHIM_WEIGHT_IDLE};
    y->us = shim_cgroup_spent(cg, &st) == 0 ? st.cpu_us : 0;
    if (dbx_list_empty(&ys->all)) {
        if (shim_cgroups_got(ys->cgroups, &ys->us) < 0)
            ys->us = 0;
        ys->looked_ns = dbx_now_ns();
        dbx_timer_start(ys->timer, LOOK_MS, LOOK_MS);
    }
    dbx_list_push(&ys->all, &y->link);
    return r;
}

void shim_yield_end(struct shim_yield *y)
{
    struct shim_yields *ys = y->of;
    if (!ys)
        return;
    y->of = NULL;
    dbx_list_remove(&y->link);
    if (!dbx_list_empty(&ys->all))
        return;
    dbx_timer_stop(ys->timer);
    shim_yields_look(ys, LOOK_MS * 1000); /* nobody wants anything: idle again */
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/quota.h"

#include "common/base/map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define HOUR_MS 3600000
#define SWEEP_AT 256 /* owners that are remembered before the idle ones are looked for */

struct account {
    struct dbx_id owner;
    uint64_t open, builds, bytes, since_ms;
};

struct shim_quota {
    struct shim_quota_opts opts;
    struct dbx_map *by_owner; /* -> struct account, owned */
    size_t sweep_at;
};

static void drop_idle(struct shim_quota *q)
{
    struct dbx_map_iter it = {0};
    size_t kept = 0;
    struct account **idle = dbx_calloc(dbx_map_count(q->by_owner), sizeof(*idle));
    size_t n = 0;
    while (dbx_map_next(q->by_owner, &it)) {
        struct account *a = it.value;
        if (a->open == 0 && q->opts.now_ms() - a->since_ms >= HOUR_MS)
            idle[n++] = a;
        else
            kept++;
    }
    for (size_t i = 0; i < n; i++) {
        (void)dbx_map_del(q->by_owner, idle[i]->owner.b, sizeof(idle[i]->owner.b));
        free(idle[i]);
    }
    free(idle);
    q->sweep_at = 2 * kept > SWEEP_AT ? 2 * kept : SWEEP_AT;
}

static struct account *account_of(struct shim_quota *q, const struct dbx_id *owner)
{
    struct account *a = dbx_map_get(q->by_owner, owner->b, sizeof(owner->b));
    uint64_t now = q->opts.now_ms();
    if (!a) {
        if (dbx_map_count(q->by_owner) >= q->sweep_at)
            drop_idle(q);
        a = DBX_NEW(struct account);
        a->owner = *owner;
        a->since_ms = now;
        (void)dbx_map_put(q->by_owner, a->owner.b, sizeof(a->owner.b), a);
    }
    if (now - a->since_ms >= HOUR_MS) {
        a->since_ms = now;
        a->builds = a->open; /* those are of this hour, too */
        a->bytes = 0;
    }
    return a;
}

int shim_quota_begin(struct shim_quota *q, const struct dbx_id *owner, struct dbx_err *err)
{
    struct account *a = account_of(q, owner);
    uint64_t left_min = (HOUR_MS - (q->opts.now_ms() - a->since_ms) + 59999) / 60000;
    if (a->open >= q->opts.at_a_time)
        return dbx_err_set(err, -EDQUOT, DBX_LIMIT,
                           "%" PRIu64 " of your layers are being made already, which is your limit",
                           a->open);
    if (a->builds >= q->opts.hourly)
        return dbx_err_set(err, -EDQUOT, DBX_LIMIT,
                           "%" PRIu64 " layers were made for you within the hour, which is your "
                           "limit; go on in %" PRIu64 " min",
                           a->builds, left_min);
    if (a->bytes >= q->opts.hourly_bytes)
        return dbx_err_set(err, -EDQUOT, DBX_LIMIT,
                           "layers of %" PRIu64 " MB were made for you within the hour, your limit "
                           "is %" PRIu64 "; go on in %" PRIu64 " min",
                           a->bytes >> 20, q->opts.hourly_bytes >> 20, left_min);
    a->open++;
    a->builds++;
    return 0;
}

void shim_quota_end(struct shim_quota *q, const struct dbx_id *owner, bool built, uint64_t bytes)
{
    struct account *a = account_of(q, owner);
    dbx_assert(a->open > 0);
    a->open--;
    a->builds -= !built && a->builds > 0;
    a->bytes += bytes;
}

struct shim_quota *shim_quota_new(const struct shim_quota_opts *opts)
{
    struct shim_quota *q = DBX_NEW(struct shim_quota);
    q->opts = *opts;
    q->by_owner = dbx_map_new();
    q->sweep_at = SWEEP_AT;
    return q;
}

struct shim_quota *shim_quota_free(struct shim_quota *q)
{
    struct dbx_map_iter it = {0};
    if (!q)
        return NULL;
    while (dbx_map_next(q->by_owner, &it))
        free(it.value);
    dbx_map_free(q->by_owner);
    free(q);
    return NULL;
}

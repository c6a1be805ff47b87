/* SPDX-License-Identifier: Apache-2.0 */
/* In order: the ledger; who has which sandbox; the sandboxes; the boxes; the executions; and then
 * each init is asked for all it knows, for an exit may have come while nobody listened. Killed in
 * the middle of it, the next shim begins anew with the same ledger. */
#include "shim/adopt.h"

#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/loop.h"
#include "common/proto/record.h"
#include "shim/box.h"
#include "shim/exec.h"
#include "shim/init_client.h"
#include "shim/keeper_client.h"
#include "shim/ledger.h"
#include "shim/pool.h"
#include "shim/record.h"
#include "shim/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct held { /* a sandbox in the inventory */
    struct dbx_list node;
    struct dbx_id id;
    int control, state; /* owned */
    uint64_t claimed_mb;
    bool has_streams;
    struct shim_sandbox *sb; /* adopted */
};

struct kept_node {
    struct dbx_list node;
    struct shim_kept *kept; /* owned until somebody takes it */
};

struct exec_node {
    struct dbx_list node;
    struct dbx_id process;
    struct shim_exec_record rec;
};

struct shim_adopt {
    struct shim_adopt_opts opts;
    struct dbx_list held, kept, execs;
    struct dbx_map *by_id; /* 16 bytes -> struct held */
    size_t n_held, n_adopted, n_listing;
    bool done;
};

static void check_done(void *user);

/* ---- the inventory ---- */

struct shim_adopt *shim_adopt_new(const struct shim_adopt_opts *opts)
{
    struct shim_adopt *ad = DBX_NEW(struct shim_adopt);
    ad->opts = *opts;
    ad->by_id = dbx_map_new();
    dbx_list_init(&ad->held);
    dbx_list_init(&ad->kept);
    dbx_list_init(&ad->execs);
    return ad;
}

void shim_adopt_sandbox(struct shim_adopt *ad, const struct dbx_id *id, int control, int state)
{
    struct held *h = DBX_NEW(struct held);
    *h = (struct held){.id = *id, .control = control, .state = state};
    dbx_list_push(&ad->held, &h->node);
    (void)dbx_map_put(ad->by_id, id->b, sizeof(id->b), h);
    ad->n_held += !dbx_id_equal(id, &shim_ledger_id);
}

void shim_adopt_process(struct shim_adopt *ad, struct shim_kept *p)
{
    struct kept_node *k = DBX_NEW(struct kept_node);
    k->kept = p;
    dbx_list_push(&ad->kept, &k->node);
}

size_t shim_adopt_count(const struct shim_adopt *ad)
{
    return ad->n_held;
}

static struct held *find_held(const struct shim_adopt *ad, const struct dbx_id *id)
{
    return dbx_map_get(ad->by_id, id->b, sizeof(id->b));
}

static void held_free(struct shim_adopt *ad, struct held *h)
{
    dbx_list_remove(&h->node);
    (void)dbx_map_del(ad->by_id, h->id.b, sizeof(h->id.b));
    dbx_close(h->control);
    dbx_close(h->state);
    free(h);
}

static void exec_free(struct exec_node *en)
{
    dbx_list_remove(&en->node);
    shim_exec_record_done(&en->rec);
    free(en);
}

/* What nobody took: the keeper lets go of it. */
static void let_go(struct shim_adopt *ad)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ad->kept)
    {
        struct kept_node *k = dbx_list_entry(it, struct kept_node, node);
        shim_kept_remove(k->kept);
        dbx_list_remove(&k->node);
        free(k);
    }
    dbx_list_each(it, tmp, &ad->held)
    {
        struct held *h = dbx_list_entry(it, struct held, node);
        if (!h->sb && !dbx_id_equal(&h->id, &shim_ledger_id))
            (void)shim_keeper_remove_sandbox(ad->opts.keeper, &h->id);
        held_free(ad, h);
    }
}

struct shim_adopt *shim_adopt_free(struct shim_adopt *ad)
{
    struct dbx_list *it, *tmp;
    if (!ad)
        return NULL;
    dbx_loop_undefer(ad->opts.node->loop, check_done, ad);
    dbx_list_each(it, tmp, &ad->kept)
    {
        struct kept_node *k = dbx_list_entry(it, struct kept_node, node);
        shim_kept_free(k->kept);
        free(k);
    }
    dbx_list_each(it, tmp, &ad->held) held_free(ad, dbx_list_entry(it, struct held, node));
    dbx_list_each(it, tmp, &ad->execs) exec_free(dbx_list_entry(it, struct exec_node, node));
    dbx_map_free(ad->by_id);
    free(ad);
    return NULL;
}

/* ---- the ledger ---- */

static int hand_over(struct shim_adopt *ad, struct dbx_err *err)
{
    int fd = shim_ledger_fd(ad->opts.node->ledger);
    int r = shim_keeper_add_sandbox(ad->opts.keeper, &shim_ledger_id, fd, fd, NULL, NULL);
    return r < 0
               ? dbx_err_set(err, r, DBX_UNAVAIL, "hand the ledger to the keeper: %s", strerror(-r))
               : 0;
}

static int open_ledger(struct shim_adopt *ad, struct dbx_err *err)
{
    struct held *h = find_held(ad, &shim_ledger_id);
    struct dbx_err why = {0};
    if (h && shim_ledger_open(DBX_TAKE_FD(h->state), &ad->opts.node->ledger, &why) == 0)
        return 0;
    if (h) {
        dbx_log(DBX_LOG_ERR, ad->opts.log, "%s; its sandboxes are ended", why.msg);
        (void)shim_keeper_remove_sandbox(ad->opts.keeper, &shim_ledger_id);
    }
    int r = shim_ledger_new(&ad->opts.node->ledger, err);
    return r < 0 ? r : hand_over(ad, err);
}

int shim_adopt_discard(struct shim_adopt *ad, struct dbx_err *err)
{
    bool has_ledger = find_held(ad, &shim_ledger_id) != NULL;
    let_go(ad);
    return has_ledger || !ad->opts.node->ledger ? 0 : hand_over(ad, err);
}

/* ---- who has what ---- */

static void claim(struct shim_adopt *ad, const struct dbx_id *instance, uint64_t mb)
{
    struct held *h = find_held(ad, instance);
    if (h)
        h->claimed_mb = mb > 0 ? mb : 1;
}

static void read_exec(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    struct shim_adopt *ad = user;
    struct exec_node *en = DBX_NEW(struct exec_node);
    struct dbx_err err = {0};
    if (shim_exec_record_decode(data, len, &en->rec, &err) < 0 ||
        !dbx_id_equal(&en->rec.rq->process, id)) {
        dbx_log(DBX_LOG_ERR, ad->opts.log, "%s; it is ended",
                err.code ? err.msg : "a record of another");
        shim_ledger_del(ad->opts.node->ledger, SHIM_LG_EXEC, id);
        shim_exec_record_done(&en->rec);
        free(en);
        return;
    }
    const struct dbx_limits *a = &en->rec.rq->limits, *b = &en->rec.rq->compile_limits;
    en->process = *id;
    dbx_list_push(&ad->execs, &en->node);
    if (en->rec.state < SHIM_EX_SHIPPING && !en->rec.rq->workspace)
        claim(ad, &en->rec.instance,
              (uint64_t)(a->memory_mb > b->memory_mb ? a->memory_mb : b->memory_mb));
}

static void read_box(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    struct shim_adopt *ad = user;
    struct shim_box_record rec;
    struct dbx_err err = {0};
    if (shim_box_record_decode(data, len, &rec, &err) == 0) {
        claim(ad, &rec.instance, rec.memory_mb ? rec.memory_mb : dbx_sizes[0].memory_mb);
        return;
    }
    dbx_log(DBX_LOG_ERR, ad->opts.log, "%s; it is ended", err.msg);
    shim_ledger_del(ad->opts.node->ledger, SHIM_LG_BOX, id);
}

static void note_streams(struct shim_adopt *ad)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ad->kept)
    {
        const struct kept_node *k = dbx_list_entry(it, struct kept_node, node);
        struct held *h = find_held(ad, shim_kept_sandbox(k->kept));
        if (h)
            h->has_streams = true;
    }
}

/* ---- adopting ---- */

static void adopt_sandbox(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    struct shim_adopt *ad = user;
    struct shim_sandbox_record rec;
    struct dbx_err err = {0};
    struct held *h = find_held(ad, id);
    /* An unclaimed one in which something was begun is of no use to anybody. */
    bool wanted = h && h->control >= 0 && (h->claimed_mb || !h->has_streams);
    if (wanted && shim_sandbox_record_decode(data, len, &rec, &err) < 0)
        dbx_log(DBX_LOG_ERR, ad->opts.log, "%s; it is ended", err.msg);
    else if (wanted && (h->claimed_mb || rec.fresh))
        h->sb = shim_pool_adopt(ad->opts.pool, id, &rec, DBX_TAKE_FD(h->control), h->claimed_mb);
    if (h && h->sb)
        ad->n_adopted++;
    else
        shim_ledger_del(ad->opts.node->ledger, SHIM_LG_SANDBOX, id);
}

static void adopt_box(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    struct shim_adopt *ad = user;
    struct shim_box_record rec;
    int r = shim_box_record_decode(data, len, &rec, NULL);
    struct held *h = r == 0 ? find_held(ad, &rec.instance) : NULL;
    if (h && h->sb)
        (void)shim_box_adopt(ad->opts.execs, id, &rec, h->sb);
    else
        shim_ledger_del(ad->opts.node->ledger, SHIM_LG_BOX, id);
}

static struct shim_kept *take_kept(struct shim_adopt *ad, const struct dbx_id *process,
                                   uint32_t phase)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ad->kept)
    {
        struct kept_node *k = dbx_list_entry(it, struct kept_node, node);
        struct shim_kept *kept = k->kept;
        if (shim_kept_phase(kept) != phase || !dbx_id_equal(shim_kept_process(kept), process))
            continue;
        dbx_list_remove(&k->node);
        free(k);
        return kept;
    }
    return NULL;
}

static void adopt_execs(struct shim_adopt *ad)
{
    struct exec_node *en;
    while ((en = dbx_list_first(&ad->execs, struct exec_node, node))) {
        struct held *h = find_held(ad, &en->rec.instance);
        struct shim_kept *const kept[2] = {take_kept(ad, &en->process, DBX_REC_COMPILE),
                                           take_kept(ad, &en->process, 0)};
        shim_execs_adopt(ad->opts.execs, &en->rec, h ? h->sb : NULL, kept);
        exec_free(en);
    }
}

static void settle_box(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    struct shim_adopt *ad = user;
    struct shim_box *box = shim_box_find(ad->opts.execs, id);
    (void)data;
    (void)len;
    if (box)
        shim_box_settle(box);
}

static void drop_stdin(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    struct shim_adopt *ad = user;
    (void)data;
    (void)len;
    if (!shim_execs_find(ad->opts.execs, id))
        shim_ledger_del(ad->opts.node->ledger, SHIM_LG_STDIN, id);
}

/* ---- what happened meanwhile ---- */

struct listing {
    struct shim_adopt *ad;
    struct shim_sandbox *sb;
};

static void check_done(void *user)
{
    struct shim_adopt *ad = user;
    if (ad->n_listing > 0 || ad->done)
        return;
    ad->done = true;
    ad->opts.on_done(ad->opts.user);
}

static void on_listed(uint64_t value, const struct dbx_err *err, void *user)
{
    struct listing *li = user;
    struct shim_adopt *ad = li->ad;
    (void)value;
    if (!err)
        shim_execs_listed(ad->opts.execs, li->sb);
    else if (err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, shim_sandbox_log(li->sb), "its init does not list: %s", err->msg);
    free(li);
    ad->n_listing--;
    dbx_loop_defer(ad->opts.node->loop, check_done, ad);
}

static void list_all(struct shim_adopt *ad)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ad->held)
    {
        const struct held *h = dbx_list_entry(it, struct held, node);
        struct shim_init *init = h->sb && h->claimed_mb ? shim_sandbox_init(h->sb) : NULL;
        if (!init)
            continue;
        struct listing *li = DBX_NEW(struct listing);
        *li = (struct listing){ad, h->sb};
        if (shim_init_list(init, on_listed, li) < 0)
            free(li); /* it is down: told otherwise */
        else
            ad->n_listing++;
    }
}

int shim_adopt_run(struct shim_adopt *ad, struct dbx_err *err)
{
    int r = open_ledger(ad, err);
    if (r < 0)
        return r;
    struct shim_ledger *lg = ad->opts.node->ledger;
    shim_ledger_each(lg, SHIM_LG_EXEC, read_exec, ad);
    shim_ledger_each(lg, SHIM_LG_BOX, read_box, ad);
    note_streams(ad);
    shim_ledger_each(lg, SHIM_LG_SANDBOX, adopt_sandbox, ad);
    shim_ledger_each(lg, SHIM_LG_BOX, adopt_box, ad);
    adopt_execs(ad);
    shim_ledger_each(lg, SHIM_LG_BOX, settle_box, ad);
    shim_ledger_each(lg, SHIM_LG_STDIN, drop_stdin, ad);
    list_all(ad);
    if (ad->n_held)
        dbx_log(DBX_LOG_INFO, ad->opts.log, "adopted %zu of %zu sandboxes and %zu executions",
                ad->n_adopted, ad->n_held, shim_execs_count(ad->opts.execs));
    let_go(ad);
    dbx_loop_defer(ad->opts.node->loop, check_done, ad);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/deps_int.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "shim/quota.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shim_deps_wait {
    struct dbx_list node; /* of the layer's; in none: its answer is on the way */
    struct shim_deps *deps;
    const struct shim_deps_handlers *h;
    void *user;
    int exit_code; /* of the answer on the way, that there is none */
    struct dbx_err err;
};

static void count(const char *result)
{
    char labels[48];
    snprintf(labels, sizeof(labels), "result=\"%s\"", result);
    dbx_metric_add(dbx_counter("devbox_shim_layers_total", labels, "Dependency layers asked for"),
                   1);
}

/* ---- one layer ---- */

void shim_dep__unref(struct shim_dep *dp)
{
    if (--dp->refs)
        return;
    dp->magic = 0;
    dbx_timer_free(dp->deadline);
    dbx_buf_done(&dp->text);
    bnd_deps_done(&dp->what);
    free(dp->tree);
    free(dp);
}

static void forget(struct shim_dep *dp)
{
    if (dbx_map_get(dp->deps->by_key, dp->what.key, BND_LAYER_KEY) != dp)
        return;
    (void)dbx_map_del(dp->deps->by_key, dp->what.key, BND_LAYER_KEY);
    dbx_list_remove(&dp->node);
    shim_dep__unref(dp);
}

void shim_dep__say(struct shim_dep *dp, const void *data, size_t len)
{
    struct dbx_list *it, *tmp;
    if (dp->text.len + len > SHIM_DEPS_MAX_LOG)
        dbx_buf_consume(&dp->text, dp->text.len / 2);
    (void)dbx_buf_append(&dp->text, data, len);
    dbx_list_each(it, tmp, &dp->waits)
    {
        struct shim_deps_wait *w = dbx_list_entry(it, struct shim_deps_wait, node);
        if (w->h->on_text)
            w->h->on_text(data, len, w->user);
    }
}

static void tell_all(struct shim_dep *dp)
{
    struct shim_deps_wait *w;
    while ((w = dbx_list_first(&dp->waits, struct shim_deps_wait, node))) {
        dbx_list_remove(&w->node);
        w->h->on_done(dp->name, dp->exit_code, dp->name ? NULL : &dp->err, w->user);
        free(w);
    }
}

static bool has_one_begun(const struct shim_deps *deps, const struct dbx_id *owner)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(deps->by_key, &it)) {
        const struct shim_dep *dp = it.value;
        if (dp->begun && !dp->over && dbx_id_equal(&dp->owner, owner))
            return true;
    }
    return false;
}

/* The first of an owner of whom nothing is being made; else the first. */
static struct shim_dep *next_of(const struct shim_deps *deps)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &deps->queue)
    {
        struct shim_dep *dp = dbx_list_entry(it, struct shim_dep, node);
        if (!has_one_begun(deps, &dp->owner))
            return dp;
    }
    return dbx_list_first(&deps->queue, struct shim_dep, node);
}

static void begin_next(struct shim_deps *deps)
{
    while (!deps->stopped && deps->building < SHIM_DEPS_BUILDS && !dbx_list_empty(&deps->queue)) {
        struct shim_dep *dp = next_of(deps);
        dbx_list_remove(&dp->node);
        deps->building++;
        dp->begun = true;
        dp->began_ms = dbx_now_ms();
        dbx_timer_start(dp->deadline, SHIM_DEPS_BUILD_MS, 0);
        shim_dep__begin(dp);
    }
}

static void empty_trash(void *user)
{
    bnd_layers_empty_trash(user);
}

static void on_trash_emptied(void *user)
{
    free(user);
}

static void look_for_trash(struct shim_deps *deps)
{
    char *trash = bnd_layers_take_trash(deps->opts.layers);
    if (trash)
        dbx_loop_work(deps->opts.loop, empty_trash, on_trash_emptied, trash);
}

void shim_dep__done(struct shim_dep *dp)
{
    struct shim_deps *deps = dp->deps;
    if (dp->over)
        return;
    dp->over = true;
    dp->refs++;
    count(dp->name && *dp->pulled ? "pulled"
          : dp->name              ? "built"
          : dp->exit_code >= 0    ? "failed"
                                  : "error");
    dbx_log(dp->name || dp->exit_code >= 0 ? DBX_LOG_INFO : DBX_LOG_WARN, &dp->log,
            "layer of %s after %llu ms: %s", dp->what.what->lock,
            (unsigned long long)(dp->began_ms ? dbx_now_ms() - dp->began_ms : 0),
            dp->name && *dp->pulled ? "taken from another node"
            : dp->name              ? "made"
                                    : dp->err.msg);
    shim_dep__abandon(dp);
    shim_quota_end(deps->opts.quota, &dp->owner, dp->begun && !*dp->pulled,
                   dp->name ? dp->bytes : 0);
    deps->building -= dp->begun;
    if (dp->name || dp->exit_code < 0) /* else its failure is remembered for a moment */
        forget(dp);
    else
        dbx_timer_start(dp->deadline, SHIM_DEPS_FAILED_MS, 0);
    tell_all(dp);
    look_for_trash(deps);
    begin_next(deps);
    shim_dep__unref(dp);
}

static void on_deadline(void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    if (dp->over) {
        forget(dp);
        return;
    }
    dbx_err_set(&dp->err, -ETIMEDOUT, DBX_TIMEOUT, "the installation takes too long");
    shim_dep__done(dp);
}

static struct shim_dep *dep_new(struct shim_deps *deps, const struct bnd_template *tpl,
                                struct bnd_deps *what, const struct dbx_id *owner)
{
    struct shim_dep *dp = DBX_NEW(struct shim_dep);
    dp->magic = SHIM_DEP_MAGIC;
    dp->refs = 1;
    dp->deps = deps;
    dp->tpl = tpl;
    dp->owner = *owner;
    dp->what = *what;
    what->files = (struct dbx_buf){0};
    dp->exit_code = dp->out = dp->result = dp->packed = -1;
    dbx_log_ctx_init(&dp->log, deps->opts.log, "layer", dp->what.key);
    dbx_buf_init(&dp->text, SHIM_DEPS_MAX_LOG);
    dbx_list_init(&dp->waits);
    dp->deadline = dbx_timer_new(deps->opts.loop, on_deadline, dp);
    (void)dbx_map_put(deps->by_key, dp->what.key, BND_LAYER_KEY, dp);
    dbx_list_push(&deps->queue, &dp->node);
    return dp;
}

/* ---- who wants one ---- */

static void begin_later(void *user)
{
    begin_next(user);
}

static void answer_later(void *user)
{
    struct shim_deps_wait *w = user;
    w->h->on_done(NULL, w->exit_code, &w->err, w->user);
    free(w);
}

struct shim_deps_wait *shim_deps_get(struct shim_deps *deps, const struct bnd_template *tpl,
                                     struct bnd_deps *what, const struct dbx_id *owner,
                                     const struct shim_deps_handlers *h, void *user)
{
    struct shim_dep *dp = dbx_map_get(deps->by_key, what->key, BND_LAYER_KEY);
    struct shim_deps_wait *w = DBX_NEW(struct shim_deps_wait);
    bool full = dbx_map_count(deps->by_key) >= SHIM_DEPS_MAX_BUILDS || deps->stopped;
    *w = (struct shim_deps_wait){.deps = deps, .h = h, .user = user, .exit_code = -1};
    dbx_list_init(&w->node);
    if (dp && dp->text.len && h->on_text)
        h->on_text(dp->text.data, dp->text.len, user);
    if (dp && dp->over) { /* it failed a moment ago */
        w->exit_code = dp->exit_code;
        w->err = dp->err;
    } else if (!dp && full) {
        dbx_err_set(&w->err, -EBUSY, DBX_LIMIT, "too many layers are being made");
    } else if (dp || shim_quota_begin(deps->opts.quota, owner, &w->err) == 0) {
        dp = dp ? dp : dep_new(deps, tpl, what, owner);
        dbx_list_push(&dp->waits, &w->node);
        dbx_loop_defer(deps->opts.loop, begin_later, deps);
    }
    if (w->err.kind == DBX_LIMIT)
        count("refused");
    if (dbx_list_empty(&w->node))
        dbx_loop_defer(deps->opts.loop, answer_later, w);
    bnd_deps_done(what);
    return w;
}

void shim_deps_wait_free(struct shim_deps_wait *w)
{
    if (!w)
        return;
    dbx_list_remove(&w->node);
    dbx_loop_undefer(w->deps->opts.loop, answer_later, w);
    free(w);
}

const char *shim_deps_use(struct shim_deps *deps, const char *key)
{
    const char *name = bnd_layers_use(deps->opts.layers, key);
    if (name)
        count("hit");
    return name;
}

/* ---- all of them ---- */

struct shim_deps *shim_deps_new(const struct shim_deps_opts *opts)
{
    struct shim_deps *deps = DBX_NEW(struct shim_deps);
    deps->opts = *opts;
    deps->by_key = dbx_map_new();
    dbx_list_init(&deps->queue);
    look_for_trash(deps);
    return deps;
}

void shim_deps_stop(struct shim_deps *deps)
{
    struct dbx_map_iter it = {0};
    if (!deps)
        return;
    deps->stopped = true;
    while (dbx_map_next(deps->by_key, &it)) {
        struct shim_dep *dp = it.value;
        dp->refs++;
        dbx_err_set(&dp->err, -ECANCELED, DBX_UNAVAIL, "the node goes away");
        dp->exit_code = -1;
        shim_dep__done(dp);
        forget(dp);
        shim_dep__unref(dp);
    }
}

struct shim_deps *shim_deps_free(struct shim_deps *deps)
{
    if (!deps)
        return NULL;
    shim_deps_stop(deps);
    dbx_loop_undefer(deps->opts.loop, begin_later, deps);
    dbx_map_free(deps->by_key);
    free(deps);
    return NULL;
}

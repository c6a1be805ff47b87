/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/box_int.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/ext/crypto.h"
#include "common/io/loop.h"
#include "common/proto/files.h"
#include "shim/ledger.h"
#include "shim/record.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void end_box(struct shim_box *box);

void shim_box__unref(struct shim_box *box)
{
    if (--box->refs)
        return;
    shim_box__sync_free(box);
    shim_box_forget_files(box);
    dbx_map_free(box->written);
    dbx_timer_free(box->idle);
    dbx_timer_free(box->max);
    box->magic = 0;
    free(box);
}

/* ---- files ---- */

void shim_box_forget_files(struct shim_box *box)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(box->written, &it)) {
        void *value = it.value;
        (void)dbx_map_del(box->written, it.key, it.key_len);
        free(value);
    }
    box->revision = -1;
}

uint32_t shim_box__mode(const uint8_t *data, size_t len)
{
    return len > 2 && memcmp(data, "#!", 2) == 0 ? 0755 : 0644;
}

/* A program made it, later than the files that come. */
static bool newer(const struct shim_written *wn, int64_t revision)
{
    return wn->local || wn->revision > revision;
}

/* What stands in the table and not among the files of record is to be gone: what is deeper first.
 */
static int by_path_backwards(const void *a, const void *b)
{
    return -strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_gone(struct shim_box *box, int64_t revision, struct dbx_buf *out)
{
    size_t n = 0;
    char **paths = dbx_calloc(dbx_map_count(box->written) + 1, sizeof(*paths));
    struct dbx_map_iter it = {0};
    int r = 0;
    while (dbx_map_next(box->written, &it)) {
        struct shim_written *wn = it.value;
        if (wn->wanted || newer(wn, revision))
            continue;
        paths[n++] = dbx_strndup(it.key, it.key_len);
        (void)dbx_map_del(box->written, it.key, it.key_len);
        free(wn);
    }
    qsort(paths, n, sizeof(*paths), by_path_backwards);
    for (size_t i = 0; i < n; i++) {
        struct dbx_file f = {
            .gone = true, .path = paths[i], .path_len = (uint16_t)strlen(paths[i])};
        if (r == 0)
            r = dbx_files_add(out, &f);
        free(paths[i]);
    }
    free(paths);
    return r;
}

static int add_changed(struct shim_box *box, int64_t revision, const struct dbx_file *f,
                       struct dbx_buf *out)
{
    struct shim_written *wn = dbx_map_get(box->written, f->path, f->path_len);
    struct shim_written now = {.folder = f->folder, .mode = f->mode, .wanted = true};
    dbx_sha256(f->data, f->folder ? 0 : f->size, now.sha);
    if (wn && newer(wn, revision))
        return 0;
    bool same = wn && wn->folder == now.folder && wn->mode == now.mode &&
                memcmp(wn->sha, now.sha, sizeof(now.sha)) == 0;
    if (!wn) {
        wn = DBX_NEW(struct shim_written);
        (void)dbx_map_put(box->written, f->path, f->path_len, wn);
    }
    *wn = now;
    return same ? 0 : dbx_files_add(out, f);
}

/* Marks what is still wanted, so that what is not can be removed before anything is written. */
static void mark_wanted(struct shim_box *box, const struct dbx_buf *files)
{
    struct dbx_map_iter it = {0};
    struct dbx_file f;
    size_t at = 0;
    while (dbx_map_next(box->written, &it))
        ((struct shim_written *)it.value)->wanted = false;
    while (dbx_files_next(files->data, files->len, &at, &f) > 0) {
        struct shim_written *wn = dbx_map_get(box->written, f.path, f.path_len);
        if (wn && wn->folder == f.folder)
            wn->wanted = true;
    }
}

int shim_box_files(struct shim_exec *ex, struct dbx_buf *out, struct dbx_err *err)
{
    struct shim_box *box = ex->box;
    const struct dbx_buf *files = &ex->rq->files;
    struct dbx_file f;
    size_t at = 0;
    int r;
    dbx_buf_init(out, INIT_MAX_FILES_BODY - 4096); /* leaves room for the path of the root */
    if (ex->rq->revision <= box->revision)
        return 0; /* those of an older process come late */
    r = dbx_files_begin(out);
    size_t empty = out->len;
    mark_wanted(box, files);
    if (r == 0)
        r = add_gone(box, ex->rq->revision, out);
    while (r == 0 && files->len > 0 && dbx_files_next(files->data, files->len, &at, &f) > 0)
        r = add_changed(box, ex->rq->revision, &f, out);
    if (r < 0) {
        shim_box_forget_files(box);
        return dbx_err_set(err, r, DBX_LIMIT, "the files do not fit into a block");
    }
    box->revision = ex->rq->revision;
    if (out->len == empty)
        dbx_buf_clear(out);
    return 0;
}

/* ---- for the next shim ---- */

static struct shim_ledger *ledger_of(const struct shim_box *box)
{
    return box->execs->opts.ledger ? *box->execs->opts.ledger : NULL;
}

static void save(struct shim_box *box)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    if (!box->sb || box->ended || !ledger_of(box))
        return;
    const struct shim_box_record rec = {.instance = *shim_sandbox_id(box->sb),
                                        .idle_ms = box->idle_ms,
                                        .idle_at_ms = box->idle_at_ms,
                                        .max_at_ms = box->max_at_ms,
                                        .memory_mb = box->size->memory_mb,
                                        .closing = box->closing};
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    int r = shim_box_record_encode(&rec, &buf);
    if (r == 0)
        r = shim_ledger_put(ledger_of(box), SHIM_LG_BOX, &box->id, buf.data, buf.len);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, &box->log, "the next shim will not know it: %s", strerror(-r));
}

/* ---- who is in it ---- */

static struct shim_exec *member_of(struct shim_box *box, const struct dbx_id *process)
{
    struct shim_exec *ex = shim_execs_find(box->execs, process);
    return ex && ex->box == box ? ex : NULL;
}

static void kill_group(struct shim_box *box, const struct dbx_id *process)
{
    struct shim_init *init = box->sb ? shim_sandbox_init(box->sb) : NULL;
    if (init)
        (void)shim_init_signal(init, process, 0, SIGKILL, INIT_TO_GROUP, NULL, NULL);
}

static void enter(struct shim_exec *ex)
{
    struct shim_box *box = ex->box;
    struct shim_sandbox_usage u;
    ex->sb = box->sb;
    ex->claimed_us = dbx_wall_us();
    ex->claimed_ms = dbx_now_ms();
    ex->warm = ex->claimed_ms - ex->state_ms < 20;
    shim_sandbox_usage(box->sb, &u);
    ex->oom_mark = u.oom_kills;
    shim_sandbox_set_running(box->sb, true);
    shim_exec__set_state(ex, SHIM_EX_PREPARING);
    shim_exec__prepare(ex);
}

/* The first reason counts. */
static void because(struct shim_box *box, const char *why)
{
    if (!box->why)
        box->why = why;
}

static void nobody_left(struct shim_box *box)
{
    if (box->closing) {
        end_box(box);
        return;
    }
    if (box->sb)
        shim_sandbox_set_running(box->sb, false);
    if (!box->idle_at_ms)
        box->idle_at_ms = dbx_now_ms() + box->idle_ms;
    uint64_t now = dbx_now_ms();
    dbx_timer_start(box->idle, box->idle_at_ms > now ? box->idle_at_ms - now : 0, 0);
    save(box);
}

void shim_box_leave(struct shim_exec *ex)
{
    struct shim_box *box = DBX_TAKE(ex->box);
    if (!box)
        return;
    ex->sb = NULL;
    dbx_list_remove(&ex->box_link);
    if (ex->run.began && !ex->run.exited)
        kill_group(box, &ex->rq->process);
    if (dbx_list_empty(&box->members) && !box->ended)
        nobody_left(box);
}

/* ---- what the sandbox says ---- */

static void on_started(struct shim_sandbox *sb, const struct shim_init_started *s, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_exec *ex = member_of(box, &s->process);
    (void)sb;
    if (ex)
        shim_exec__on_started(ex, s);
    else if (s->error)
        (void)shim_init_ack(shim_sandbox_init(box->sb), &s->process, s->phase);
    else
        kill_group(box, &s->process); /* dropped while it was on its way */
}

static void on_exited(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_exec *ex = member_of(box, &e->process);
    box->refs++;
    if (ex)
        shim_exec__on_exited(ex, e);
    struct shim_init *init = box->sb ? shim_sandbox_init(sb) : NULL;
    if (init) /* also of those that have left */
        (void)shim_init_ack(init, &e->process, e->phase);
    shim_box__unref(box);
}

static void on_saw(struct shim_sandbox *sb, const struct shim_init_saw *s, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_exec *ex = member_of(box, &s->process);
    (void)sb;
    if (ex)
        shim_exec__on_saw(ex, s);
}

static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    (void)sb;
    box->refs++;
    box->closing = true;
    because(box, "lost");
    while (!dbx_list_empty(&box->members)) {
        struct shim_exec *ex = dbx_list_first(&box->members, struct shim_exec, box_link);
        shim_exec__sandbox_lost(ex, err);
        if (ex->box == box) /* never: it leaves when its sandbox is lost */
            shim_box_leave(ex);
    }
    end_box(box);
    shim_box__unref(box);
}

static const struct shim_sandbox_handlers sandbox_handlers = {
    .on_lost = on_lost, .on_started = on_started, .on_exited = on_exited, .on_saw = on_saw};

/* ---- beginning and end ---- */

static void tell_ended(struct shim_box *box)
{
    if (box->execs->opts.on_box_ended)
        box->execs->opts.on_box_ended(box->id_text, box->why ? box->why : "lost",
                                      box->execs->opts.user);
}

/* Nobody is in it, or whoever is has been told. */
static void end_box(struct shim_box *box)
{
    struct shim_sandbox *sb = DBX_TAKE(box->sb);
    if (box->ended)
        return;
    box->ended = box->closing = true;
    dbx_timer_stop(box->idle);
    dbx_timer_stop(box->max);
    (void)dbx_map_del(box->execs->boxes, box->id.b, sizeof(box->id.b));
    shim_ledger_del(ledger_of(box), SHIM_LG_BOX, &box->id);
    if (box->claim)
        shim_claim_cancel(DBX_TAKE(box->claim));
    shim_box__sync_end(box);
    if (sb) {
        shim_sandbox_set_owner(sb, NULL, NULL);
        shim_sandbox_end(sb);
    }
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox ended: %s",
            box->why ? box->why : "lost");
    tell_ended(box);
    shim_box__unref(box);
}

static void finish_all(struct shim_box *box, const char *reason, const char *why)
{
    box->refs++;
    box->closing = true;
    because(box, reason);
    while (!dbx_list_empty(&box->members)) {
        struct shim_exec *ex = dbx_list_first(&box->members, struct shim_exec, box_link);
        shim_exec__finish(ex, why);
        if (ex->box == box)
            shim_box_leave(ex);
    }
    end_box(box);
    shim_box__unref(box);
}

static void on_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct dbx_list *it, *tmp;
    struct dbx_err why = {0};
    box->claim = NULL;
    if (box->ended) {
        if (sb)
            shim_sandbox_end(sb);
        shim_box__unref(box);
        return;
    }
    if (sb && shim_sandbox_set_limits(sb, box->size->memory_mb, box->size->processes, &why) < 0) {
        shim_sandbox_set_owner(sb, NULL, NULL);
        shim_sandbox_end(sb);
        sb = NULL;
        err = &why;
    }
    if (!sb) {
        dbx_log(DBX_LOG_WARN, &box->log, "no sandbox: %s", err->msg);
        finish_all(box, "failed", err->msg);
        shim_box__unref(box);
        return;
    }
    box->sb = sb;
    shim_sandbox_set_owner(sb, &sandbox_handlers, box);
    shim_sandbox_open_registry(sb);
    shim_sandbox_set_running(sb, true);
    save(box);
    shim_box__sync_begin(box);
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox is %s", shim_sandbox_id_text(sb));
    dbx_list_each(it, tmp, &box->members)
    {
        struct shim_exec *ex = dbx_list_entry(it, struct shim_exec, box_link);
        if (ex->state == SHIM_EX_CLAIMING && box->sb)
            enter(ex);
    }
    if (dbx_list_empty(&box->members) && !box->ended)
        nobody_left(box);
    shim_box__unref(box);
}

static void on_idle(void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    if (!dbx_list_empty(&box->members))
        return;
    because(box, "idle");
    end_box(box);
}

/* Of one who is there: the process is killed, of one on its way: it ends now. */
static void end_member(struct shim_exec *ex)
{
    if (ex->now && !ex->now->ended) {
        ex->now->ending.wall_over = true;
        shim_exec__kill(ex);
    } else {
        shim_exec__finish(ex, "the sandbox is as old as one may be");
    }
}

static void on_max(void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct dbx_list *it, *tmp;
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox is as old as one may be");
    box->refs++;
    box->closing = true;
    because(box, "max_age");
    save(box);
    dbx_list_each(it, tmp, &box->members)
        end_member(dbx_list_entry(it, struct shim_exec, box_link));
    if (dbx_list_empty(&box->members))
        end_box(box);
    shim_box__unref(box);
}

static struct shim_box *box_new(struct shim_execs *execs, const struct dbx_id *id,
                                const struct dbx_size *size, uint64_t max_at_ms)
{
    struct shim_box *box = DBX_NEW(struct shim_box);
    uint64_t now = dbx_now_ms();
    box->magic = SHIM_BOX_MAGIC;
    box->refs = 1; /* the table */
    box->execs = execs;
    box->size = size;
    box->id = *id;
    box->revision = -1;
    box->written = dbx_map_new();
    dbx_id_format(&box->id, box->id_text);
    dbx_log_ctx_init(&box->log, execs->opts.log, "sandbox", box->id_text);
    dbx_list_init(&box->members);
    box->idle = dbx_timer_new(execs->opts.loop, on_idle, box);
    box->max = dbx_timer_new(execs->opts.loop, on_max, box);
    (void)dbx_map_put(execs->boxes, box->id.b, sizeof(box->id.b), box);
    box->max_at_ms = max_at_ms;
    dbx_timer_start(box->max, max_at_ms > now ? max_at_ms - now : 0, 0);
    return box;
}

static struct shim_box *box_claim(struct shim_execs *execs, const struct shim_request *rq)
{
    const struct dbx_size *size = rq->size;
    struct shim_box *box = box_new(execs, &rq->sandbox, size, dbx_now_ms() + (uint64_t)rq->max_ms);
    const struct shim_claim_opts opts = {.template = rq->template,
                                         .disk_mb = size->disk_mb,
                                         .memory_mb = size->memory_mb,
                                         .processes = size->processes,
                                         .cpu_millis = size->cpu_millis,
                                         .workspace = true,
                                         .wait_ms = SHIM_EXEC_CLAIM_MS};
    box->refs++; /* until it is answered */
    box->claim = shim_pool_claim(execs->opts.pool, &opts, on_claimed, box);
    return box;
}

void shim_box_join(struct shim_exec *ex)
{
    struct shim_box *box = shim_box_find(ex->execs, &ex->rq->sandbox);
    if (!box)
        box = box_claim(ex->execs, ex->rq);
    dbx_assert(!box->closing);
    ex->box = box;
    dbx_list_push(&box->members, &ex->box_link);
    box->idle_ms = (uint64_t)ex->rq->idle_ms;
    box->idle_at_ms = 0;
    dbx_timer_stop(box->idle);
    save(box);
    shim_exec__set_state(ex, SHIM_EX_CLAIMING);
    if (box->sb)
        enter(ex);
}

/* An earlier version's has no memory_mb: it knew one size. */
static const struct dbx_size *size_of(const struct shim_box_record *rec)
{
    for (size_t i = 0; i < dbx_sizes_len; i++)
        if (dbx_sizes[i].memory_mb == rec->memory_mb)
            return &dbx_sizes[i];
    return &dbx_sizes[0];
}

struct shim_box *shim_box_adopt(struct shim_execs *execs, const struct dbx_id *id,
                                const struct shim_box_record *rec, struct shim_sandbox *sb)
{
    struct shim_box *box = box_new(execs, id, size_of(rec), rec->max_at_ms);
    box->idle_ms = rec->idle_ms;
    box->idle_at_ms = rec->idle_at_ms;
    box->closing = rec->closing;
    box->sb = sb;
    shim_sandbox_set_owner(sb, &sandbox_handlers, box);
    shim_sandbox_open_registry(sb);
    shim_box__sync_begin(box);
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox %s is adopted",
            shim_sandbox_id_text(sb));
    return box;
}

void shim_box_rejoin(struct shim_exec *ex)
{
    struct shim_box *box = shim_box_find(ex->execs, &ex->rq->sandbox);
    if (!box || !box->sb)
        return;
    ex->box = box;
    ex->sb = box->sb;
    dbx_list_push(&box->members, &ex->box_link);
}

void shim_box_settle(struct shim_box *box)
{
    if (dbx_list_empty(&box->members) && !box->ended)
        nobody_left(box);
}

struct shim_box *shim_box_find(struct shim_execs *execs, const struct dbx_id *sandbox)
{
    return dbx_map_get(execs->boxes, sandbox->b, sizeof(sandbox->b));
}

void shim_box_touch(struct shim_box *box)
{
    if (!box->idle_at_ms || box->closing || box->ended)
        return;
    box->idle_at_ms = dbx_now_ms() + box->idle_ms;
    dbx_timer_start(box->idle, box->idle_ms, 0);
    save(box);
}

bool shim_box_closing(const struct shim_box *box)
{
    return box->closing;
}

void shim_box_cancel(struct shim_box *box)
{
    struct dbx_list *it, *tmp;
    box->refs++;
    box->closing = true;
    because(box, "requested");
    save(box);
    dbx_list_each(it, tmp, &box->members)
        shim_exec_cancel(dbx_list_entry(it, struct shim_exec, box_link));
    if (dbx_list_empty(&box->members))
        end_box(box);
    shim_box__unref(box);
}

void shim_box_give_up(struct shim_box *box)
{
    struct dbx_err err = {0};
    if (box->ended || !box->sb)
        return;
    dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT, "a process in it did not end");
    shim_sandbox_end(box->sb);
    on_lost(box->sb, &err, box);
}

void shim_boxes_end(struct shim_execs *execs)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(execs->boxes, &it))
        finish_all(it.value, "drained", "the node ends it");
}

void shim_boxes_each(struct shim_execs *execs, void (*fn)(const char *id, void *user), void *user)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(execs->boxes, &it))
        fn(((struct shim_box *)it.value)->id_text, user);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/keeper_table.h"

#include "common/base/fd.h"
#include "common/base/map.h"
#include "common/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct keeper_process *process_of(struct keeper_feed *f)
{
    struct keeper_feed *first = f - f->slot_stream;
    return dbx_container_of(first, struct keeper_process, feeds);
}

static void process_free(struct keeper_process *p)
{
    dbx_close(p->memfd);
    dbx_close(p->pipes[0]);
    dbx_close(p->pipes[1]);
    dbx_close(p->in);
    keeper_unmap(p->shared, p->what.value);
    free(p);
}

static void on_progress(struct keeper_feed *f, size_t n, void *user)
{
    struct keeper_table *t = user;
    struct keeper_process *p = process_of(f);
    dbx_metric_add(t->bytes, (double)n);
    if (!p->removed && t->on_progress)
        t->on_progress(p->what.slot, t->user);
}

static void on_stopped(struct keeper_feed *f, void *user)
{
    struct keeper_process *p = process_of(f);
    (void)user;
    p->fed[f->slot_stream] = false;
    if (p->removed && !p->fed[0] && !p->fed[1])
        process_free(p);
}

int keeper_table_init(struct keeper_table *t, struct dbx_loop *loop,
                      const struct keeper_pump_ops *ops, struct dbx_err *err)
{
    t->ops = ops;
    t->handlers = (struct keeper_pump_handlers){on_progress, on_stopped};
    int r = ops->open(loop, &t->handlers, t, &t->pump, err);
    if (r < 0)
        return r;
    t->sandboxes = dbx_map_new();
    t->bytes = dbx_counter("devbox_keeper_read_bytes_total", NULL, "Bytes read from programs.");
    t->processes = dbx_gauge("devbox_keeper_processes", NULL, "Processes whose streams are held.");
    t->boxes =
        dbx_gauge("devbox_keeper_sandboxes", NULL, "Sandboxes whose control socket is held.");
    return 0;
}

static void forget_sandbox(struct keeper_table *t, struct keeper_sandbox *sb)
{
    (void)dbx_map_del(t->sandboxes, sb->id, sizeof(sb->id));
    dbx_metric_set(t->boxes, (double)dbx_map_count(t->sandboxes));
    dbx_close(sb->control);
    dbx_close(sb->state);
    free(sb);
}

static void drop_process(struct keeper_table *t, struct keeper_process *p)
{
    struct keeper_sandbox *sb = dbx_map_get(t->sandboxes, p->what.sandbox, sizeof(sb->id));
    bool fed[2] = {p->fed[0], p->fed[1]};
    dbx_list_remove(&p->node);
    if (sb && sb->removed && dbx_list_empty(&sb->processes))
        forget_sandbox(t, sb);
    t->slots[p->what.slot] = NULL;
    dbx_metric_set(t->processes, --t->n_processes);
    dbx_closep(&p->in);
    if (!fed[0] && !fed[1]) {
        process_free(p);
        return;
    }
    p->removed = true;
    for (int i = 0; i < 2; i++) /* the last stop may free p: not looked at afterwards */
        if (fed[i])
            t->ops->stop(&p->feeds[i]);
}

static void drop_sandbox(struct keeper_table *t, struct keeper_sandbox *sb)
{
    struct dbx_list *it, *tmp;
    sb->removed = false; /* it goes here, not with its last process */
    dbx_list_each(it, tmp, &sb->processes)
        drop_process(t, dbx_list_entry(it, struct keeper_process, node));
    forget_sandbox(t, sb);
}

void keeper_table_done(struct keeper_table *t)
{
    struct dbx_map_iter it = {0};
    while (t->sandboxes && dbx_map_next(t->sandboxes, &it))
        drop_sandbox(t, it.value);
    if (t->pump)
        t->ops->close(t->pump);
    t->sandboxes = dbx_map_free(t->sandboxes);
}

int keeper_add_sandbox(struct keeper_table *t, const struct keeper_msg *m, const int *fds,
                       size_t n_fds)
{
    if (dbx_map_get(t->sandboxes, m->sandbox, sizeof(m->sandbox)))
        return -EEXIST;
    if (dbx_map_count(t->sandboxes) >= t->max_sandboxes)
        return -ENOSPC;
    struct keeper_sandbox *sb = DBX_NEW(struct keeper_sandbox);
    memcpy(sb->id, m->sandbox, sizeof(sb->id));
    sb->control = fds[0];
    sb->state = n_fds > 1 ? fds[1] : -1;
    dbx_list_init(&sb->processes);
    (void)dbx_map_put(t->sandboxes, sb->id, sizeof(sb->id), sb);
    dbx_metric_set(t->boxes, (double)dbx_map_count(t->sandboxes));
    return 0;
}

int keeper_remove_sandbox(struct keeper_table *t, const uint8_t id[static 16])
{
    struct keeper_sandbox *sb = dbx_map_get(t->sandboxes, id, 16);
    if (!sb || sb->removed)
        return -ENOENT;
    if (dbx_list_empty(&sb->processes)) {
        forget_sandbox(t, sb);
        return 0;
    }
    /* What its programs have written is still in the pipes and rings: they are read to the end. */
    sb->removed = true;
    dbx_closep(&sb->control);
    dbx_closep(&sb->state);
    return 0;
}

static void begin_feed(struct keeper_table *t, struct keeper_process *p, int stream)
{
    struct keeper_feed *f = &p->feeds[stream];
    uint64_t size = p->what.value;
    *f = (struct keeper_feed){.fd = p->pipes[stream],
                              .ring = keeper_ring_data(p->shared, size, stream),
                              .size = size,
                              .shared = &p->shared->ring[stream],
                              .slot_stream = stream};
    if (f->fd < 0) {
        keeper_feed_ended(f, KEEPER_EOF);
        return;
    }
    p->fed[stream] = true;
    t->ops->start(f, t->pump);
}

int keeper_add_process(struct keeper_table *t, const struct keeper_msg *m, const int *fds,
                       size_t n_fds, struct dbx_err *err)
{
    struct keeper_sandbox *sb = dbx_map_get(t->sandboxes, m->sandbox, sizeof(m->sandbox));
    struct keeper_shared *shared;
    if (!sb || sb->removed)
        return -ENOENT;
    if (t->slots[m->slot])
        return -EEXIST;
    if (t->n_processes >= t->max_processes)
        return -ENOSPC;
    int r = keeper_map(fds[0], m->value, &shared, err);
    if (r < 0)
        return r;
    struct keeper_process *p = DBX_NEW(struct keeper_process);
    size_t at = 1;
    *p = (struct keeper_process){.table = t, .what = *m, .memfd = fds[0], .shared = shared};
    p->pipes[0] = m->streams & KEEPER_STDOUT ? fds[at++] : -1;
    p->pipes[1] = m->streams & KEEPER_STDERR ? fds[at++] : -1;
    p->in = m->streams & KEEPER_STDIN ? fds[at++] : -1;
    dbx_assert(at == n_fds);
    dbx_list_push(&sb->processes, &p->node);
    t->slots[m->slot] = p;
    dbx_metric_set(t->processes, ++t->n_processes);
    begin_feed(t, p, 0);
    begin_feed(t, p, 1);
    keeper_flush(t);
    return 0;
}

static struct keeper_process *find(struct keeper_table *t, const struct keeper_msg *m)
{
    struct keeper_process *p = t->slots[m->slot];
    bool same =
        p && !memcmp(p->what.process, m->process, sizeof(m->process)) && p->what.phase == m->phase;
    return same ? p : NULL;
}

int keeper_remove_process(struct keeper_table *t, const struct keeper_msg *m)
{
    struct keeper_process *p = find(t, m);
    if (!p)
        return -ENOENT;
    drop_process(t, p);
    keeper_flush(t);
    return 0;
}

int keeper_close_stdin(struct keeper_table *t, const struct keeper_msg *m)
{
    struct keeper_process *p = find(t, m);
    if (!p)
        return -ENOENT;
    dbx_closep(&p->in);
    return 0;
}

void keeper_resume_slot(struct keeper_table *t, uint32_t slot)
{
    struct keeper_process *p = t->slots[slot];
    for (int i = 0; p && i < 2; i++)
        if (p->fed[i])
            t->ops->resume(&p->feeds[i]);
}

void keeper_flush(struct keeper_table *t)
{
    t->ops->flush(t->pump);
}

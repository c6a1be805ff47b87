/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the segment files. A reader is REPLAYing (it reads by itself from its own position), LIVE
 * (it stands where its partition's tail stands, and gets what the tail reads, once for all
 * readers), or HELD (its handler said "not now"). A live reader that is held back leaves the tail
 * and replays later, so a slow one never slows the others.
 *
 * Replay goes in slices of REPLAY_SLICE bytes a loop turn, round-robin. Readers may be freed in any
 * callback: while callbacks run, freed ones wait in the graveyard.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/ext/crypto.h"
#include "common/io/loop.h"
#include "common/proto/output_log_file.h"

#define REPLAY_SLICE (1u << 20)
#define READ_CHUNK (256u << 10)
#define TURN_MS 5  /* of one tail; a thousand readers of each entry take their time */
#define POLL_MS 20 /* for a partition whose writer has not made it yet */

static void pump(void *user);

static void schedule(struct olf *log)
{
    if (!log->pump_queued)
        dbx_loop_defer(log->loop, pump, log);
    log->pump_queued = true;
}

/* --- the index and the segments of a partition --- */

static bool map_tail(struct olf_tail *t)
{
    char path[PATH_MAX];
    if (t->index)
        return true;
    olf_path(t->log, t->partition, "index", path, sizeof(path));
    DBX_CLEANUP(dbx_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < OLF_INDEX_SIZE)
        return false;
    void *map = mmap(NULL, OLF_INDEX_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return false;
    if (((const struct olf_index *)map)->magic != OLF_INDEX_MAGIC) {
        munmap(map, OLF_INDEX_SIZE);
        return false;
    }
    t->watch = inotify_add_watch(t->log->inotify_fd, path, IN_MODIFY);
    t->index = map;
    return true;
}

static int64_t tail_next(const struct olf_tail *t)
{
    return t->index
               ? atomic_load_explicit(&((struct olf_index *)t->index)->next, memory_order_acquire)
               : 0;
}

static int64_t tail_oldest(const struct olf_tail *t)
{
    return t->index ? atomic_load(&((struct olf_index *)t->index)->oldest) : 0;
}

/* Opens the segment that holds pos. -ENODATA: retention took it (or none is there). */
static int open_at(const struct olf_tail *t, int64_t pos, int *fd, int64_t *ret_base)
{
    struct olf_segment *segs = NULL;
    size_t n = 0;
    int r = olf_segments(t->log, t->partition, &segs, &n, NULL);
    if (r < 0)
        return r;
    while (n > 0 && segs[n - 1].base > pos)
        n--;
    int64_t base = n ? segs[n - 1].base : -1;
    free(segs);
    if (base < 0 || pos < tail_oldest(t))
        return -ENODATA;
    char name[OLF_NAME_MAX], path[PATH_MAX];
    snprintf(name, sizeof(name), "%020" PRId64 ".seg", base);
    olf_path(t->log, t->partition, name, path, sizeof(path));
    dbx_close(*fd);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    *ret_base = base;
    return *fd < 0 ? (errno == ENOENT ? -ENODATA : -errno) : 0;
}

struct cursor {
    const struct olf_tail *tail;
    int *fd;
    int64_t *base;
    int64_t *pos;
    uint8_t **buf;
    size_t *cap;
};

/* Reads as much as is there at *pos, up to the index's `next`: at least one whole entry. 0 with
 * *ret_len 0: nothing new. -ENODATA: the position is gone. -EBADMSG: what stands there is no entry.
 */
static int read_chunk(struct cursor *c, size_t *ret_len)
{
    *ret_len = 0;
    int64_t next = tail_next(c->tail);
    if (*c->pos >= next)
        return 0;
    for (int tries = 0; tries < 3; tries++) {
        if (*c->fd < 0) {
            int r = open_at(c->tail, *c->pos, c->fd, c->base);
            if (r < 0)
                return r;
        }
        size_t want = READ_CHUNK;
        if ((int64_t)want > next - *c->pos)
            want = (size_t)(next - *c->pos);
        for (;;) {
            if (*c->cap < want) {
                *c->buf = dbx_realloc(*c->buf, want);
                *c->cap = want;
            }
            ssize_t n = pread(*c->fd, *c->buf, want, *c->pos - *c->base);
            if (n < 0)
                return -errno;
            if (n == 0)
                break; /* the end of this segment: the next one begins here */
            struct olf_entry_header h;
            if (n < OLF_ENTRY_HEADER)
                return -EBADMSG;
            memcpy(&h, *c->buf, sizeof(h));
            if (h.magic != OLF_ENTRY_MAGIC || h.len > DBX_LOG_MAX_VALUE)
                return -EBADMSG;
            if ((size_t)n >= OLF_ENTRY_HEADER + h.len) {
                *ret_len = (size_t)n;
                return 0;
            }
            if (want >= OLF_ENTRY_HEADER + h.len)
                return -EBADMSG; /* the segment ends within an entry */
            want = OLF_ENTRY_HEADER + h.len;
        }
        dbx_close(*c->fd);
        *c->fd = -1;
    }
    return -EBADMSG;
}

/* What stands at *pos cannot be read: the next position that can, i.e. the next segment, or the
 * end. */
static int64_t skip_from(const struct olf_tail *t, int64_t pos)
{
    struct olf_segment *segs = NULL;
    size_t n = 0;
    int64_t to = tail_next(t), oldest = tail_oldest(t);
    if (olf_segments(t->log, t->partition, &segs, &n, NULL) == 0)
        for (size_t i = n; i-- > 0;)
            if (segs[i].base > pos && segs[i].base >= oldest)
                to = segs[i].base;
    free(segs);
    return to;
}

/* One entry at buf; false when less than a whole one is left. */
static bool next_entry(const uint8_t *buf, size_t len, struct olf_entry_header *h)
{
    if (len < OLF_ENTRY_HEADER)
        return false;
    memcpy(h, buf, sizeof(*h));
    return h->magic == OLF_ENTRY_MAGIC && h->len <= DBX_LOG_MAX_VALUE &&
           len - OLF_ENTRY_HEADER >= h->len;
}

/* --- readers --- */

static void set_state(struct olf_reader *r, enum olf_reader_state state)
{
    struct olf *log = r->tail->log;
    dbx_list_remove(&r->node);
    r->state = state;
    if (state == OLF_REPLAY)
        dbx_list_push(&log->replaying, &r->node);
    else if (state == OLF_LIVE)
        dbx_list_push(&r->tail->live, &r->node);
    else if (state == OLF_DEAD)
        dbx_list_push(&log->graveyard, &r->node);
    if (state == OLF_REPLAY)
        schedule(log);
    if (state != OLF_REPLAY) {
        dbx_close(r->fd);
        r->fd = -1;
        free(r->buf);
        r->buf = NULL;
        r->buf_cap = 0;
    }
}

static void free_now(struct olf_reader *r)
{
    dbx_list_remove(&r->node);
    dbx_close(r->fd);
    free(r->buf);
    r->head.magic = 0;
    free(r);
}

static void leave(struct olf *log)
{
    if (--log->depth > 0)
        return;
    while (!dbx_list_empty(&log->graveyard))
        free_now(dbx_list_first(&log->graveyard, struct olf_reader, node));
}

/* Gives one entry to a reader that stands at its offset. Returns whether the reader goes on. */
static bool deliver(struct olf_reader *r, const struct olf_entry_header *h, const uint8_t *value,
                    int64_t offset)
{
    int64_t next = offset + OLF_ENTRY_HEADER + (int64_t)h->len;
    if (memcmp(h->key, r->key.b, sizeof(r->key.b)) != 0) {
        r->pos = next;
        return true;
    }
    if (olf_entry_crc(h, value, h->len, NULL, 0) != h->crc) { /* damaged on disk: told, not shown */
        r->pos = next;
        r->h.on_truncated(offset, next, r->user);
        return r->state != OLF_DEAD;
    }
    struct dbx_olog_entry e = {.offset = offset, .next = next, .value = value, .len = h->len};
    bool taken = r->h.on_entry(&e, r->user);
    if (r->state == OLF_DEAD)
        return false;
    if (!taken) {
        set_state(r, OLF_HELD);
        return false;
    }
    r->pos = next;
    return true;
}

static void truncated(struct olf_reader *r, int64_t to)
{
    int64_t wanted = r->pos;
    r->pos = to;
    dbx_close(r->fd);
    r->fd = -1;
    r->h.on_truncated(wanted, to, r->user);
}

/* on_live is about the end as it is now. */
static void ask_live(struct olf_reader *r)
{
    r->told_live = !r->h.on_live;
    r->live_at = tail_next(r->tail);
    r->tail->untold = r->tail->untold || !r->told_live;
}

static void tell_live(struct olf_reader *r)
{
    if (r->told_live || r->pos < r->live_at)
        return;
    r->told_live = true;
    r->h.on_live(r->pos, r->user);
}

static void go_live(struct olf_reader *r)
{
    set_state(r, OLF_LIVE);
    if (!r->tail->index)
        dbx_timer_start(r->tail->log->poll_timer, POLL_MS, 0);
    tell_live(r);
}

/* The tail has come as far as it goes for now: those that waited for it are told. */
static void tell_tail(struct olf_tail *t)
{
    struct dbx_list all;
    if (!t->untold)
        return;
    t->untold = false;
    dbx_list_init(&all);
    dbx_list_take_all(&t->live, &all);
    while (!dbx_list_empty(&all)) {
        struct olf_reader *r = dbx_list_first(&all, struct olf_reader, node);
        dbx_list_remove(&r->node);
        dbx_list_push(&t->live, &r->node);
        t->untold = t->untold || (!r->told_live && r->pos < r->live_at);
        tell_live(r);
    }
}

/* One slice of a replay. */
static void replay(struct olf_reader *r)
{
    struct olf_tail *t = r->tail;
    if (!map_tail(t)) { /* nothing was ever written to this partition */
        if (r->pos != 0)
            truncated(r, 0);
        if (r->state == OLF_REPLAY)
            go_live(r);
        return;
    }
    if (r->pos < tail_oldest(t))
        truncated(r, tail_oldest(t));
    else if (r->pos > tail_next(t))
        truncated(r, tail_next(t));
    for (size_t budget = REPLAY_SLICE; r->state == OLF_REPLAY && budget > 0;) {
        struct cursor c = {t, &r->fd, &r->base, &r->pos, &r->buf, &r->buf_cap};
        size_t len;
        /* A tail that nobody follows stands nowhere: the first live reader takes it along. */
        if (dbx_list_empty(&t->live) && r->pos >= tail_next(t)) {
            if (t->pos != r->pos) {
                t->pos = r->pos;
                dbx_close(t->fd);
                t->fd = -1;
            }
            go_live(r);
            return;
        }
        if (!dbx_list_empty(&t->live) && r->pos == t->pos) {
            go_live(r);
            return;
        }
        int rc = read_chunk(&c, &len);
        if (rc == -ENODATA && r->pos < tail_oldest(t)) {
            truncated(r, tail_oldest(t));
            continue;
        }
        if (rc == -EBADMSG || rc == -ENODATA) {
            truncated(r, skip_from(t, r->pos));
            continue;
        }
        if (rc < 0) {
            struct dbx_err err = {0};
            dbx_err_set(&err, rc, DBX_INTERNAL, "read output log partition %u: %s", t->partition,
                        strerror(-rc));
            set_state(r, OLF_HELD);
            r->h.on_error(&err, r->user);
            return;
        }
        if (len == 0) { /* at the end, and the tail not yet: it has to be read first */
            t->dirty = true;
            return;
        }
        struct olf_entry_header h;
        const uint8_t *p = r->buf;
        /* The buffer is the reader's own, but its handler may free or hold it: keep it alive over
         * the loop. */
        uint8_t *mine = r->buf;
        size_t mine_cap = r->buf_cap;
        r->buf = NULL;
        r->buf_cap = 0;
        for (size_t left = len; r->state == OLF_REPLAY && next_entry(p, left, &h);) {
            size_t size = OLF_ENTRY_HEADER + h.len;
            if (!dbx_list_empty(&t->live) && r->pos == t->pos)
                break;
            if (!deliver(r, &h, p + OLF_ENTRY_HEADER, r->pos))
                break;
            p += size;
            left -= size;
            budget -= budget < size ? budget : size;
        }
        if (r->state == OLF_REPLAY) {
            r->buf = mine;
            r->buf_cap = mine_cap;
        } else {
            free(mine);
        }
    }
}

/* Reads what is new in a partition, once for all live readers. */
static void read_tail(struct olf_tail *t)
{
    struct olf *log = t->log;
    uint64_t until = dbx_now_ms() + TURN_MS;
    for (int round = 0; round < 4 && !dbx_list_empty(&t->live) && dbx_now_ms() < until; round++) {
        struct cursor c = {t, &t->fd, &t->base, &t->pos, &log->buf, &log->buf_cap};
        size_t len;
        int rc = map_tail(t) ? read_chunk(&c, &len) : 0;
        if (rc < 0) { /* each replays from there and is told what is gone */
            while (!dbx_list_empty(&t->live))
                set_state(dbx_list_first(&t->live, struct olf_reader, node), OLF_REPLAY);
            return;
        }
        if (!t->index || len == 0)
            return;
        struct olf_entry_header h;
        for (const uint8_t *p = log->buf; next_entry(p, len, &h) && dbx_now_ms() <= until;) {
            int64_t offset = t->pos;
            t->pos += OLF_ENTRY_HEADER + (int64_t)h.len;
            struct dbx_list all;
            dbx_list_init(&all);
            dbx_list_take_all(&t->live, &all);
            while (!dbx_list_empty(&all)) {
                struct olf_reader *r = dbx_list_first(&all, struct olf_reader, node);
                dbx_list_remove(&r->node);
                dbx_list_push(&t->live, &r->node);
                if (r->pos == offset)
                    (void)deliver(r, &h, p + OLF_ENTRY_HEADER, offset);
            }
            p += OLF_ENTRY_HEADER + h.len;
            len -= OLF_ENTRY_HEADER + h.len;
        }
    }
    if (!dbx_list_empty(&t->live) && t->pos < tail_next(t)) {
        t->dirty = true;
        schedule(log);
    }
}

static void pump(void *user)
{
    struct olf *log = user;
    log->pump_queued = false;
    log->depth++;
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        if (!log->tails[i].dirty)
            continue;
        log->tails[i].dirty = false;
        read_tail(&log->tails[i]);
        tell_tail(&log->tails[i]);
    }
    struct dbx_list turn;
    dbx_list_init(&turn);
    dbx_list_take_all(&log->replaying, &turn);
    while (!dbx_list_empty(&turn)) {
        struct olf_reader *r = dbx_list_first(&turn, struct olf_reader, node);
        dbx_list_remove(&r->node);
        dbx_list_push(&log->replaying, &r->node);
        replay(r);
    }
    leave(log);
    if (!dbx_list_empty(&log->replaying))
        schedule(log);
}

static void on_inotify(void *user, int events, int error)
{
    struct olf *log = user;
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    (void)events, (void)error;
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) { /* what memory tells need not wait */
        struct olf_tail *t = &log->tails[i];
        t->dirty = t->dirty || (!dbx_list_empty(&t->live) && tail_next(t) > t->pos);
    }
    pump(log);
    /* Once: what is left wakes us again, and to be told that nothing is would delay what came. */
    ssize_t n = read(log->inotify_fd, buf, sizeof(buf));
    for (char *p = buf; n > 0 && p < buf + n;) {
        const struct inotify_event *e = (const struct inotify_event *)(void *)p;
        for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
            if (log->tails[i].watch == e->wd || (e->mask & IN_Q_OVERFLOW))
                log->tails[i].dirty = true;
        p += sizeof(*e) + e->len;
    }
    pump(log);
}

/* Partitions that live readers wait for and that nobody has written to yet. */
static void on_poll(void *user)
{
    struct olf *log = user;
    bool missing = false;
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        struct olf_tail *t = &log->tails[i];
        if (t->index || dbx_list_empty(&t->live))
            continue;
        t->dirty = map_tail(t);
        missing = missing || !t->dirty;
        schedule(log);
    }
    if (missing)
        dbx_timer_start(log->poll_timer, POLL_MS, 0);
}

int olf_readers_start(struct olf *log, struct dbx_err *err)
{
    dbx_list_init(&log->replaying);
    dbx_list_init(&log->graveyard);
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        struct olf_tail *t = &log->tails[i];
        t->log = log;
        t->partition = i;
        t->watch = t->fd = -1;
        dbx_list_init(&t->live);
    }
    log->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (log->inotify_fd < 0)
        return dbx_err_sys(err,
                           "watch the output log (fs.inotify.max_user_instances may be too low)");
    log->inotify_watch = dbx_watch_new(log->loop, log->inotify_fd, DBX_READ, on_inotify, log);
    log->poll_timer = dbx_timer_new(log->loop, on_poll, log);
    return 0;
}

void olf_readers_stop(struct olf *log)
{
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        struct olf_tail *t = &log->tails[i];
        while (t->live.next && !dbx_list_empty(&t->live))
            free_now(dbx_list_first(&t->live, struct olf_reader, node));
        dbx_close(t->fd);
        if (t->index)
            munmap((void *)t->index, OLF_INDEX_SIZE);
    }
    while (log->replaying.next && !dbx_list_empty(&log->replaying))
        free_now(dbx_list_first(&log->replaying, struct olf_reader, node));
    while (log->graveyard.next && !dbx_list_empty(&log->graveyard))
        free_now(dbx_list_first(&log->graveyard, struct olf_reader, node));
    log->poll_timer = dbx_timer_free(log->poll_timer);
    dbx_loop_undefer(log->loop, pump, log);
    log->inotify_watch = dbx_watch_free(log->inotify_watch);
    dbx_close(log->inotify_fd);
}

struct dbx_olog_reader *olf_follow(struct dbx_olog *head, const struct dbx_id *key, int64_t from,
                                   const struct dbx_olog_reader_handlers *h, void *user)
{
    struct olf *log = (struct olf *)head;
    struct olf_reader *r = DBX_NEW(struct olf_reader);
    r->head = (struct dbx_olog_reader){DBX_OLOG_READER_MAGIC, head};
    r->tail = &log->tails[dbx_olog_partition(key)];
    r->key = *key;
    r->pos = from;
    r->fd = -1;
    r->h = *h;
    r->user = user;
    dbx_list_init(&r->node);
    (void)map_tail(r->tail);
    ask_live(r);
    set_state(r, OLF_REPLAY);
    return &r->head;
}

void olf_resume(struct dbx_olog_reader *head)
{
    struct olf_reader *r = (struct olf_reader *)head;
    if (r->state == OLF_HELD) {
        ask_live(r);
        set_state(r, OLF_REPLAY);
    }
}

void olf_catch_up(struct dbx_olog_reader *head)
{
    struct olf_reader *r = (struct olf_reader *)head;
    ask_live(r);
    r->tail->dirty = true; /* also where there is nothing to read: it is told from there */
    schedule(r->tail->log);
}

struct dbx_olog_reader *olf_reader_free(struct dbx_olog_reader *head)
{
    struct olf_reader *r = (struct olf_reader *)head;
    struct olf *log = r->tail->log;
    if (log->depth > 0)
        set_state(r, OLF_DEAD);
    else
        free_now(r);
    return NULL;
}

int olf_bounds(struct dbx_olog *head, uint32_t partition, int64_t *ret_oldest, int64_t *ret_next,
               struct dbx_err *err)
{
    struct olf *log = (struct olf *)head;
    (void)err;
    bool there = map_tail(&log->tails[partition]);
    *ret_oldest = there ? tail_oldest(&log->tails[partition]) : 0;
    *ret_next = there ? tail_next(&log->tails[partition]) : 0;
    return 0;
}

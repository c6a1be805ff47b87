/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output log over append-only segment files: one writer process a folder, many readers in other
 * processes.
 *
 *   DIR/writer.lock                      flock'd by the writer
 *   DIR/<partition>/index                a page mapped by all: {oldest, next}, and a byte that
 * serves as the bell DIR/<partition>/<base offset>.seg    entries: 32-byte header (magic, length,
 * CRC-32C, key), value
 *
 * An entry's offset is its byte position in the partition's endless sequence, so finding it is one
 * seek. The writer writes an entry with one writev, then stores `next` (release), then rings the
 * bell by rewriting a byte of the index file, which wakes the inotify watches of readers. A reader
 * never looks beyond `next`, so it never sees half an entry.
 *
 * A killed writer loses nothing that was acknowledged (the data is in the page cache); what it had
 * begun is cut off by the next one. Nothing is fsync'd: after a crash of the whole machine the tail
 * may be gone, as with Kafka's defaults. Then (the boot id in the index tells) the last segment is
 * verified entry by entry and cut at the first that does not hold.
 *
 * A full disk is "no room now" (-EAGAIN), tried again by a timer: programs are held back, nothing
 * is lost.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/io/loop.h"
#include "common/proto/output_log_file.h"

#define RETAIN_EVERY_MS 2000
#define ROOM_RETRY_MS 50

void olf_path(const struct olf *log, uint32_t partition, const char *name, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/%02u/%s", log->dir, partition, name);
    dbx_assert(n > 0 && (size_t)n < size);
}

uint32_t olf_entry_crc(const struct olf_entry_header *h, const void *a, size_t alen, const void *b,
                       size_t blen)
{
    uint32_t crc = dbx_crc32c(0, &h->len, sizeof(h->len));
    crc = dbx_crc32c(crc, h->key, sizeof(h->key));
    crc = dbx_crc32c(crc, a, alen);
    return dbx_crc32c(crc, b, blen);
}

static int compare_segments(const void *a, const void *b)
{
    const struct olf_segment *x = a, *y = b;
    return x->base < y->base ? -1 : x->base > y->base;
}

/* Lists a partition's segments by base offset. A partition that does not exist has none. */
int olf_segments(const struct olf *log, uint32_t partition, struct olf_segment **ret, size_t *ret_n,
                 struct dbx_err *err)
{
    char path[PATH_MAX];
    olf_path(log, partition, "", path, sizeof(path));
    struct olf_segment *segs = NULL;
    size_t n = 0;
    DIR *dir = opendir(path);
    if (!dir && errno != ENOENT)
        return dbx_err_sys(err, "open output log folder '%s'", path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        int64_t base;
        struct stat st;
        if (strlen(e->d_name) != 24 || strcmp(e->d_name + 20, ".seg") != 0 ||
            dbx_parse_i64(e->d_name, 20, 0, INT64_MAX, &base) < 0)
            continue;
        if (fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
            continue; /* taken by retention meanwhile */
        segs = dbx_realloc(segs, (n + 1) * sizeof(*segs));
        segs[n++] = (struct olf_segment){
            base, st.st_size, st.st_mtim.tv_sec * INT64_C(1000) + st.st_mtim.tv_nsec / 1000000};
    }
    if (dir)
        closedir(dir);
    if (n > 1)
        qsort(segs, n, sizeof(*segs), compare_segments);
    *ret = segs;
    *ret_n = n;
    return 0;
}

static void segment_name(int64_t base, char out[static OLF_NAME_MAX])
{
    snprintf(out, OLF_NAME_MAX, "%020" PRId64 ".seg", base);
}

static int open_segment(const struct olf *log, uint32_t partition, int64_t base, int flags,
                        struct dbx_err *err)
{
    char name[OLF_NAME_MAX], path[PATH_MAX];
    segment_name(base, name);
    olf_path(log, partition, name, path, sizeof(path));
    int fd = open(path, flags | O_CLOEXEC, 0640);
    return fd < 0 ? dbx_err_sys(err, "open output log segment '%s'", path) : fd;
}

/* Where the valid entries of a segment end, from a position on that is known to be an entry's
 * begin. */
static int64_t valid_end(int fd, int64_t from, int64_t size)
{
    uint8_t *buf = NULL;
    while (size - from >= OLF_ENTRY_HEADER) {
        struct olf_entry_header h;
        if (pread(fd, &h, sizeof(h), from) != (ssize_t)sizeof(h) || h.magic != OLF_ENTRY_MAGIC ||
            h.len > DBX_LOG_MAX_VALUE || (int64_t)h.len > size - from - OLF_ENTRY_HEADER)
            break;
        buf = buf ? buf : dbx_malloc(DBX_LOG_MAX_VALUE);
        if (pread(fd, buf, h.len, from + OLF_ENTRY_HEADER) != (ssize_t)h.len ||
            olf_entry_crc(&h, buf, h.len, NULL, 0) != h.crc)
            break;
        from += OLF_ENTRY_HEADER + (int64_t)h.len;
    }
    free(buf);
    return from;
}

static void read_boot_id(char out[static 40])
{
    memset(out, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, out, 36) != 36)
        memset(out, 0, 40);
    dbx_close(fd);
}

static int map_index(struct olf *log, struct olf_part *p, uint32_t partition, struct dbx_err *err)
{
    char path[PATH_MAX];
    olf_path(log, partition, "index", path, sizeof(path));
    dbx_close(p->bell_fd);
    p->bell_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (p->bell_fd < 0)
        return dbx_err_sys(err, "open output log index '%s'", path);
    if (ftruncate(p->bell_fd, OLF_INDEX_SIZE) < 0)
        return dbx_err_sys(err, "size output log index '%s'", path);
    p->index = mmap(NULL, OLF_INDEX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->bell_fd, 0);
    if (p->index == MAP_FAILED) {
        p->index = NULL;
        return dbx_err_sys(err, "map output log index '%s'", path);
    }
    return 0;
}

/* Opens the last segment and cuts off what is not whole; the index then says what is there. */
static int recover(struct olf *log, struct olf_part *p, uint32_t partition, struct dbx_err *err)
{
    char boot[40];
    read_boot_id(boot);
    bool same_boot = p->index->magic == OLF_INDEX_MAGIC && boot[0] &&
                     memcmp(p->index->boot_id, boot, sizeof(boot)) == 0;
    int64_t next = p->index->magic == OLF_INDEX_MAGIC ? atomic_load(&p->index->next) : 0;
    int64_t oldest = next;
    if (p->nsegs > 0) {
        struct olf_segment *last = &p->segs[p->nsegs - 1];
        bool trusted = same_boot && next >= last->base && next <= last->base + last->size;
        p->fd = open_segment(log, partition, last->base, O_RDWR | O_APPEND, err);
        if (p->fd < 0)
            return p->fd;
        last->size = valid_end(p->fd, trusted ? next - last->base : 0, last->size);
        if (ftruncate(p->fd, last->size) < 0)
            return dbx_err_sys(err, "cut the torn tail of output log partition %u", partition);
        next = last->base + last->size;
        oldest = p->segs[0].base;
    }
    p->index->magic = OLF_INDEX_MAGIC;
    memcpy(p->index->boot_id, boot, sizeof(boot));
    atomic_store(&p->index->oldest, oldest);
    atomic_store(&p->index->next, next);
    return 0;
}

static int load_part(struct olf *log, uint32_t partition, struct dbx_err *err)
{
    struct olf_part *p = &log->parts[partition];
    char path[PATH_MAX];
    int r;
    if (p->loaded)
        return 0;
    olf_path(log, partition, "", path, sizeof(path));
    if ((r = dbx_fs_mkdirs(path, 0750, err)) < 0)
        return r;
    if (!p->index && (r = map_index(log, p, partition, err)) < 0)
        return r;
    free(p->segs);
    p->segs = NULL;
    if ((r = olf_segments(log, partition, &p->segs, &p->nsegs, err)) < 0 ||
        (r = recover(log, p, partition, err)) < 0)
        return r;
    p->loaded = true;
    return 0;
}

static int new_segment(struct olf *log, struct olf_part *p, uint32_t partition, struct dbx_err *err)
{
    int64_t base = atomic_load(&p->index->next);
    int fd = open_segment(log, partition, base, O_RDWR | O_APPEND | O_CREAT, err);
    if (fd < 0)
        return fd;
    dbx_close(p->fd);
    p->fd = fd;
    p->segs = dbx_realloc(p->segs, (p->nsegs + 1) * sizeof(*p->segs));
    p->segs[p->nsegs++] = (struct olf_segment){.base = base};
    if (p->nsegs == 1)
        atomic_store(&p->index->oldest, base);
    return 0;
}

static void give_acks(void *user)
{
    struct olf *log = user;
    struct olf_pending *list = log->pending;
    size_t n = log->npending;
    log->pending = NULL;
    log->npending = log->pending_cap = 0;
    log->ack_queued = false;
    for (size_t i = 0; i < n; i++)
        if (list[i].fn)
            list[i].fn(list[i].offset, NULL, list[i].user);
    free(list);
}

static void queue_ack(struct olf *log, int64_t offset, dbx_olog_acked *fn, void *user)
{
    if (log->npending == log->pending_cap) {
        log->pending_cap = log->pending_cap ? log->pending_cap * 2 : 64;
        log->pending = dbx_realloc(log->pending, log->pending_cap * sizeof(*log->pending));
    }
    log->pending[log->npending++] = (struct olf_pending){fn, user, offset};
    if (!log->ack_queued)
        dbx_loop_defer(log->loop, give_acks, log);
    log->ack_queued = true;
}

static void on_room_timer(void *user)
{
    struct olf *log = user;
    if (log->room_fn)
        log->room_fn(log->room_user);
}

static int no_room(struct olf *log)
{
    dbx_timer_start(log->room_timer, ROOM_RETRY_MS, 0);
    return -EAGAIN;
}

/* Writes one entry whole, or not at all. */
static int write_entry(struct olf_part *p, struct olf_segment *seg, struct iovec *iov, size_t total)
{
    ssize_t n = writev(p->fd, iov, 3);
    if (n == (ssize_t)total)
        return 0;
    if (n > 0 && ftruncate(p->fd, seg->size) < 0)
        abort(); /* a half entry that cannot be taken back: the next start recovers */
    return n < 0 ? -errno : -ENOSPC;
}

static int olf_append(struct dbx_olog *head, const struct dbx_id *key, const void *a, size_t alen,
                      const void *b, size_t blen, dbx_olog_acked *fn, void *user)
{
    struct olf *log = (struct olf *)head;
    uint32_t partition = dbx_olog_partition(key);
    struct olf_part *p = &log->parts[partition];
    dbx_assert(log->writer);
    if (load_part(log, partition, NULL) < 0)
        return no_room(log);
    if ((p->nsegs == 0 || p->fd < 0 || p->segs[p->nsegs - 1].size >= (int64_t)log->segment_bytes) &&
        new_segment(log, p, partition, NULL) < 0)
        return no_room(log);

    struct olf_segment *seg = &p->segs[p->nsegs - 1];
    struct olf_entry_header h = {.magic = OLF_ENTRY_MAGIC, .len = (uint32_t)(alen + blen)};
    memcpy(h.key, key->b, sizeof(h.key));
    h.crc = olf_entry_crc(&h, a, alen, b, blen);
    struct iovec iov[3] = {{&h, sizeof(h)}, {(void *)a, alen}, {(void *)b, blen}};
    size_t total = sizeof(h) + alen + blen;
    int64_t offset = seg->base + seg->size;
    if (write_entry(p, seg, iov, total) < 0)
        return no_room(log);
    seg->size += (int64_t)total;
    seg->mtime_ms = dbx_wall_us() / 1000;
    atomic_store_explicit(&p->index->next, seg->base + seg->size, memory_order_release);
    static const char bell = 1;
    (void)!pwrite(p->bell_fd, &bell, 1, OLF_BELL_OFFSET);
    queue_ack(log, offset, fn, user);
    return 0;
}

static void olf_on_room(struct dbx_olog *head, void (*fn)(void *user), void *user)
{
    struct olf *log = (struct olf *)head;
    log->room_fn = fn;
    log->room_user = user;
}

/* --- retention --- */

static void drop_oldest(struct olf *log, uint32_t partition)
{
    struct olf_part *p = &log->parts[partition];
    char name[OLF_NAME_MAX], path[PATH_MAX];
    dbx_assert(p->nsegs > 1);
    atomic_store(&p->index->oldest, p->segs[1].base);
    segment_name(p->segs[0].base, name);
    olf_path(log, partition, name, path, sizeof(path));
    (void)unlink(path);
    memmove(p->segs, p->segs + 1, --p->nsegs * sizeof(*p->segs));
}

/* The partition whose oldest closed segment was written longest ago, or -1. */
static int find_oldest(const struct olf *log)
{
    int best = -1;
    for (int i = 0; i < DBX_LOG_PARTITIONS; i++) {
        const struct olf_part *p = &log->parts[i];
        if (p->nsegs > 1 && (best < 0 || p->segs[0].mtime_ms < log->parts[best].segs[0].mtime_ms))
            best = i;
    }
    return best;
}

static void retain(void *user)
{
    struct olf *log = user;
    uint64_t total = 0;
    int64_t now = dbx_wall_us() / 1000;
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        struct olf_part *p = &log->parts[i];
        for (size_t k = 0; k < p->nsegs; k++)
            total += (uint64_t)p->segs[k].size;
        /* An old segment that is still written to is closed, so that it can go next time. */
        struct olf_segment *last = p->nsegs ? &p->segs[p->nsegs - 1] : NULL;
        if (log->retain_ms && last && last->size > 0 &&
            now - last->mtime_ms > (int64_t)log->retain_ms)
            (void)new_segment(log, p, i, NULL);
    }
    for (int i; (i = find_oldest(log)) >= 0;) {
        struct olf_segment *seg = &log->parts[i].segs[0];
        bool old = log->retain_ms && now - seg->mtime_ms > (int64_t)log->retain_ms;
        bool large = log->retain_bytes && total > log->retain_bytes;
        if (!old && !large)
            break;
        total -= (uint64_t)seg->size;
        drop_oldest(log, (uint32_t)i);
    }
}

/* --- open and close --- */

static int writer_start(struct olf *log, struct dbx_err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/writer.lock", log->dir);
    log->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (log->lock_fd < 0)
        return dbx_err_sys(err, "open '%s'", path);
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return dbx_err_set(err, -EBUSY, DBX_CONFLICT, "the output log '%s' has another writer",
                           log->dir);
    /* All of them now: the first record of a partition would wait for its files to be made, and who
     * follows it for a look whether they are there. */
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        int r = load_part(log, i, err);
        if (r == 0 && log->parts[i].nsegs == 0)
            r = new_segment(log, &log->parts[i], i, err);
        if (r < 0)
            return r;
    }
    log->room_timer = dbx_timer_new(log->loop, on_room_timer, log);
    log->retain_timer = dbx_timer_new(log->loop, retain, log);
    dbx_timer_start(log->retain_timer, RETAIN_EVERY_MS, RETAIN_EVERY_MS);
    return 0;
}

static struct dbx_olog *olf_close(struct dbx_olog *head)
{
    struct olf *log = (struct olf *)head;
    olf_readers_stop(log);
    give_acks(log);
    dbx_loop_undefer(log->loop, give_acks, log);
    log->room_timer = dbx_timer_free(log->room_timer);
    log->retain_timer = dbx_timer_free(log->retain_timer);
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        struct olf_part *p = &log->parts[i];
        dbx_close(p->fd);
        dbx_close(p->bell_fd);
        if (p->index)
            munmap(p->index, OLF_INDEX_SIZE);
        free(p->segs);
    }
    dbx_close(log->lock_fd);
    free(log->dir);
    free(log->buf);
    log->head.magic = 0;
    free(log);
    return NULL;
}

static const struct dbx_olog_ops file_ops = {
    .close = olf_close,
    .append = olf_append,
    .on_room = olf_on_room,
    .bounds = olf_bounds,
    .follow = olf_follow,
    .resume = olf_resume,
    .catch_up = olf_catch_up,
    .reader_free = olf_reader_free,
};

int dbx_olog__open_file(const struct dbx_olog_opts *opts, const char *dir, struct dbx_olog **ret,
                        struct dbx_err *err)
{
    struct olf *log = DBX_NEW(struct olf);
    log->head = (struct dbx_olog){DBX_OLOG_MAGIC, &file_ops};
    log->loop = opts->loop;
    log->dir = dbx_strdup(dir);
    log->writer = opts->writer;
    log->segment_bytes = opts->segment_bytes ? opts->segment_bytes : 64u << 20;
    log->retain_bytes = opts->retain_bytes;
    log->retain_ms = opts->retain_ms;
    log->lock_fd = log->inotify_fd = -1;
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
        log->parts[i].fd = log->parts[i].bell_fd = -1;
    int r = dbx_fs_mkdirs(dir, 0750, err);
    if (r == 0)
        r = olf_readers_start(log, err);
    if (r == 0 && opts->writer)
        r = writer_start(log, err);
    if (r < 0) {
        olf_close(&log->head);
        return r;
    }
    *ret = &log->head;
    return 0;
}

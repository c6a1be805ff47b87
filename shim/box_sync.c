/* SPDX-License-Identifier: Apache-2.0 */
/* What programs do to the files of a workspace's sandbox becomes files of record: init tells it on
 * a pipe, it is compared by hash with what the two last agreed on (so our own writes do not come
 * back), and goes to the scheduler, a batch at a time. While a batch is on its way nothing is read:
 * the pipe fills, and init notes what else happens. A batch that is not answered is sent again;
 * coming twice it changes nothing. */
#include "shim/box_int.h"

#include "common/base/fd.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "common/proto/files.h"
#include "common/proto/link.h"
#include "shim/change.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_CHANGES 256
#define MAX_BYTES (4u << 20)
#define AGAIN_MS 500
#define READ_SIZE (64u << 10)

static const char ignored[] =
    "node_modules\0.git\0target\0__pycache__\0.venv\0.cache\0.pytest_cache\0.mypy_cache";

struct change {
    char *path; /* owned */
    const char *kind;
    char base[2 * DBX_SHA256_LEN + 1]; /* "": none */
    uint64_t size;
};

struct shim_box_sync {
    int fd; /* owned */
    struct dbx_watch *watch;
    struct dbx_timer *again;
    struct dbx_buf in;    /* not yet decoded */
    struct dbx_buf block; /* contents of the files among changes */
    struct change changes[MAX_CHANGES];
    size_t n;
    bool due, busy, rested; /* rested: REST was told once */
    bool compare;           /* what is not told until REST has gone while nobody listened */
    bool unsure;            /* the record may make more of the batch than it says */
};

static void send_batch(struct shim_box *box);
static bool decode(struct shim_box *box);
static void stop_reading(struct shim_box_sync *sy);

/* --- the batch --- */

void shim_box__sync_removed(const struct shim_box *box,
                            void (*fn)(const char *path, const uint8_t sha[static DBX_SHA256_LEN],
                                       void *user),
                            void *user)
{
    const struct shim_box_sync *sy = box->sync;
    uint8_t sha[DBX_SHA256_LEN];
    for (size_t i = 0; sy && i < sy->n; i++)
        if (dbx_streq(sy->changes[i].kind, "gone") && sy->changes[i].base[0] &&
            dbx_hex_decode(sy->changes[i].base, strlen(sy->changes[i].base), sha) == 0)
            fn(sy->changes[i].path, sha, user);
}

static bool full(const struct shim_box_sync *sy)
{
    return sy->n >= MAX_CHANGES / 2 || sy->block.len >= MAX_BYTES;
}

static void clear_batch(struct shim_box_sync *sy)
{
    for (size_t i = 0; i < sy->n; i++)
        free(sy->changes[i].path);
    sy->n = 0;
    sy->due = sy->unsure = false;
    dbx_buf_clear(&sy->block);
    int r = dbx_files_begin(&sy->block);
    dbx_assert(r == 0);
}

static void add(struct shim_box_sync *sy, const char *kind, const char *path, size_t len,
                const struct shim_written *base, uint64_t size)
{
    struct change *c = &sy->changes[sy->n++];
    *c = (struct change){.path = dbx_strndup(path, len), .kind = kind, .size = size};
    if (base && !base->folder)
        dbx_hex_encode(base->sha, sizeof(base->sha), c->base);
}

bool shim_box__sync_has(const struct shim_box *box, const char *path, size_t len)
{
    const struct shim_box_sync *sy = box->sync;
    for (size_t i = 0; sy && i < sy->n; i++)
        if (strlen(sy->changes[i].path) == len && memcmp(sy->changes[i].path, path, len) == 0)
            return true;
    return false;
}

static bool has_room(const struct shim_box_sync *sy)
{
    return sy->n < MAX_CHANGES;
}

/* A program's; what the record had of it stays known until it has this one. */
static void put_local(struct shim_box *box, const struct shim_change *c,
                      const struct shim_written *now)
{
    struct shim_written *wn = dbx_map_get(box->written, c->path, c->path_len);
    struct shim_written was = {0};
    if (wn) {
        was = *wn;
    } else {
        wn = DBX_NEW(struct shim_written);
        (void)dbx_map_put(box->written, c->path, c->path_len, wn);
    }
    *wn = *now;
    wn->seen = true;
    wn->agreed = was.agreed;
    wn->base_folder = was.base_folder;
    memcpy(wn->base, was.base, sizeof(wn->base));
}

/* It happened before our last write there was done, and was overwritten by that. */
static bool told_before_write(const struct shim_box *box, const struct shim_written *wn)
{
    return box->fenced && wn && wn->writing > box->files_done;
}

/* Nobody has changed it, it was only told before our last write there was done. */
static bool as_it_was(const struct shim_box *box, const struct shim_written *wn,
                      const uint8_t sha[static DBX_SHA256_LEN])
{
    return told_before_write(box, wn) && wn->replaced && memcmp(wn->was, sha, sizeof(wn->was)) == 0;
}

/* Our write was left alone for a program that was about to write what had stood there, and has: it
 * is asked for again. False: it was for something else. */
static bool wrote_the_same(struct shim_box *box, struct shim_written *wn,
                           const uint8_t sha[static DBX_SHA256_LEN])
{
    if (!wn || !wn->replaced || wn->local || wn->since < 0 ||
        memcmp(wn->was, sha, sizeof(wn->was)) != 0)
        return false;
    wn->replaced = false;
    wn->revision = 0;
    memcpy(wn->sha, wn->was, sizeof(wn->sha));
    memcpy(wn->base, wn->was, sizeof(wn->base));
    if (wn->since < box->revision)
        box->revision = wn->since;
    shim_box__save_files(box);
    shim_box__pull(box);
    return true;
}

static void take_file(struct shim_box *box, const struct shim_change *c)
{
    struct shim_box_sync *sy = box->sync;
    struct shim_written *wn = dbx_map_get(box->written, c->path, c->path_len);
    struct shim_written now = {.mode = shim_box__mode(c->data, c->size), .local = true};
    dbx_sha256(c->data, c->size, now.sha);
    bool before = told_before_write(box, wn);
    if (wn)
        wn->seen = true;
    if (wn && !wn->folder && memcmp(wn->sha, now.sha, sizeof(now.sha)) == 0 && !c->skipped)
        return;
    if (c->skipped ? wrote_the_same(box, wn, now.sha) : as_it_was(box, wn, now.sha))
        return;
    const struct dbx_file f = {.mode = now.mode,
                               .path = c->path,
                               .path_len = (uint16_t)c->path_len,
                               .data = c->data,
                               .size = c->size};
    if (dbx_files_add(&sy->block, &f) < 0)
        return; /* cannot be: its maximum leaves room for one more */
    add(sy, "file", c->path, c->path_len, c->skipped || before ? NULL : wn, c->size);
    sy->unsure |= c->skipped || before;
    if (before)
        wn->local = true; /* what we wrote stands there; this comes back to it from the record */
    else
        put_local(box, c, &now);
}

static void take_folder(struct shim_box *box, const struct shim_change *c)
{
    struct shim_written *wn = dbx_map_get(box->written, c->path, c->path_len);
    if (wn)
        wn->seen = true;
    if (wn && wn->folder)
        return;
    add(box->sync, "folder", c->path, c->path_len, wn, 0);
    const struct shim_written now = {.folder = true, .local = true, .mode = 0755};
    put_local(box, c, &now);
}

static int by_path_backwards(const void *a, const void *b)
{
    return -strcmp(*(char *const *)a, *(char *const *)b);
}

/* And what was below it, the deepest first; what finds no room in the batch follows by the next. */
static void take_gone(struct shim_box *box, const struct shim_change *c)
{
    struct shim_box_sync *sy = box->sync;
    char *paths[MAX_CHANGES];
    struct dbx_map_iter it = {0};
    size_t n = 0;
    if (told_before_write(box, dbx_map_get(box->written, c->path, c->path_len)))
        return;
    while (n < MAX_CHANGES && dbx_map_next(box->written, &it)) {
        const char *key = it.key;
        bool same = it.key_len >= c->path_len && memcmp(key, c->path, c->path_len) == 0;
        if (same && (it.key_len == c->path_len || key[c->path_len] == '/'))
            paths[n++] = dbx_strndup(key, it.key_len);
    }
    qsort(paths, n, sizeof(*paths), by_path_backwards);
    for (size_t i = 0; i < n; i++) {
        struct shim_written *wn = dbx_map_get(box->written, paths[i], strlen(paths[i]));
        if (has_room(sy)) {
            add(sy, "gone", paths[i], strlen(paths[i]), c->skipped ? NULL : wn, 0);
            free(dbx_map_del(box->written, paths[i], strlen(paths[i])));
        }
        free(paths[i]);
    }
}

static void take(struct shim_box *box, const struct shim_change *c)
{
    struct shim_box_sync *sy = box->sync;
    struct shim_written *wn;
    switch (c->kind) {
    case INIT_CHANGE_FILE:
        if (c->path_len)
            take_file(box, c);
        break;
    case INIT_CHANGE_FOLDER:
        if (c->path_len)
            take_folder(box, c);
        break;
    case INIT_CHANGE_GONE:
        if (c->path_len)
            take_gone(box, c);
        break;
    case INIT_CHANGE_TOO_LARGE:
        if (c->path_len && (wn = dbx_map_get(box->written, c->path, c->path_len)))
            wn->seen = true;
        if (c->path_len)
            add(sy, "skipped", c->path, c->path_len, NULL, c->size);
        break;
    case INIT_CHANGE_LOST:
        sy->compare = false;
        dbx_log(DBX_LOG_WARN, &box->log, "more happens to its files than is watched");
        break;
    case INIT_CHANGE_REST:
        sy->due = true;
        break;
    case INIT_CHANGE_FENCE:
        box->files_done++;
        break;
    case INIT_CHANGE_THERE:
        if (c->path_len && (wn = dbx_map_get(box->written, c->path, c->path_len)))
            wn->seen = true;
        break;
    }
}

/* --- to the scheduler --- */

static void fill(struct dbx_jw *w, void *arg)
{
    const struct shim_box *box = arg;
    const struct shim_box_sync *sy = box->sync;
    dbx_jw_kstr(w, "sandbox_id", box->id_text);
    dbx_jw_key(w, "changes");
    dbx_jw_array(w);
    for (size_t i = 0; i < sy->n; i++) {
        const struct change *c = &sy->changes[i];
        dbx_jw_object(w);
        dbx_jw_kstr(w, "kind", c->kind);
        dbx_jw_kstr(w, "path", c->path);
        dbx_jw_kstr(w, "base", c->base);
        dbx_jw_ki64(w, "size", (int64_t)c->size);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
}

static void taken(struct shim_box *box, int64_t before, int64_t after)
{
    struct shim_box_sync *sy = box->sync;
    for (size_t i = 0; i < sy->n; i++) {
        const char *path = sy->changes[i].path;
        struct shim_written *wn = dbx_map_get(box->written, path, strlen(path));
        if (wn) {
            wn->local = false;
            wn->revision = after;
            wn->agreed = before >= 0;
            wn->base_folder = wn->folder;
            memcpy(wn->base, wn->sha, sizeof(wn->base));
        }
    }
    if (box->revision == before && !sy->unsure)
        box->revision = after;
}

static void on_answer(const struct dbx_link_msg *m, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_box_sync *sy = box->sync;
    bool again = err && err->code != -ECANCELED &&
                 (err->kind == DBX_UNAVAIL || err->kind == DBX_TIMEOUT || err->kind == DBX_LIMIT);
    sy->busy = false;
    if (again) {
        dbx_timer_start(sy->again, AGAIN_MS, 0);
    } else {
        if (err)
            dbx_log(DBX_LOG_WARN, &box->log, "changes of its files are dropped: %s", err->msg);
        taken(box, err ? -1 : dbx_json_get_i64(m->header, "before", -1),
              err ? 0 : dbx_json_get_i64(m->header, "after", 0));
        clear_batch(sy);
        shim_box__save_files(box);
        if (box->behind) {
            box->behind = false;
            shim_box__pull(box);
        }
        if (sy->watch)
            dbx_watch_set(sy->watch, DBX_READ);
        if (!decode(box)) /* what was read with it */
            stop_reading(sy);
    }
    shim_box__unref(box);
}

static void send_batch(struct shim_box *box)
{
    struct shim_box_sync *sy = box->sync;
    const struct shim_execs_opts *o = &box->execs->opts;
    if (sy->busy || sy->n == 0)
        return;
    if (sy->watch)
        dbx_watch_set(sy->watch, 0);
    if (!o->report_files)
        return;
    sy->busy = true;
    box->refs++;
    if (o->report_files(fill, box, sy->block.data, sy->block.len, on_answer, box, o->user))
        return;
    sy->busy = false; /* no scheduler is there */
    box->refs--;
    dbx_timer_start(sy->again, AGAIN_MS, 0);
}

static void on_again(void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    send_batch(box);
}

/* --- from init --- */

static void stop_reading(struct shim_box_sync *sy)
{
    sy->watch = dbx_watch_free(sy->watch);
    dbx_closep(&sy->fd);
}

static bool is_ignored(const char *path, size_t len)
{
    for (size_t at = 0; at < len;) {
        const char *slash = memchr(path + at, '/', len - at);
        size_t n = slash ? (size_t)(slash - path) - at : len - at;
        for (const char *name = ignored; *name; name += strlen(name) + 1)
            if (strlen(name) == n && memcmp(name, path + at, n) == 0)
                return true;
        at += n + 1;
    }
    return false;
}

/* Once all is told: what was agreed on and is not there was removed while nobody listened. What
 * finds no room in the batch follows by the next. */
static void find_gone(struct shim_box *box)
{
    struct shim_box_sync *sy = box->sync;
    struct dbx_map_iter it = {0};
    bool more = false;
    while (!more && dbx_map_next(box->written, &it)) {
        const struct shim_written *wn = it.value;
        if (wn->seen || wn->local || is_ignored(it.key, it.key_len))
            continue;
        DBX_CLEANUP(dbx_freep) char *path = dbx_strndup(it.key, it.key_len);
        const struct shim_change c = {
            .kind = INIT_CHANGE_GONE, .path = path, .path_len = it.key_len};
        more = full(sy);
        if (!more)
            take_gone(box, &c);
        it = (struct dbx_map_iter){0}; /* others may have gone with it */
    }
    sy->compare = more;
}

/* False: it is nonsense. */
static bool decode(struct shim_box *box)
{
    struct shim_box_sync *sy = box->sync;
    struct shim_change c;
    size_t at = 0, used = 0;
    int r = 1;
    while (!full(sy) && (r = shim_change_next(sy->in.data + at, sy->in.len - at, &c, &used)) > 0) {
        take(box, &c);
        at += used;
    }
    dbx_buf_consume(&sy->in, at);
    if (sy->compare && box->fenced && (sy->due || sy->rested))
        find_gone(box);
    sy->rested |= sy->due;
    sy->due |= sy->n > 0 && sy->rested && sy->compare;
    if (full(sy) || (sy->due && sy->n > 0))
        send_batch(box);
    return r >= 0;
}

static void on_pipe(void *user, int events, int error)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    struct shim_box_sync *sy = box->sync;
    uint8_t room[READ_SIZE];
    (void)events;
    ssize_t n = error < 0 ? 0 : read(sy->fd, room, sizeof(room));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        stop_reading(sy);
        return;
    }
    if (dbx_buf_append(&sy->in, room, (size_t)n) < 0 || !decode(box)) {
        dbx_log(DBX_LOG_WARN, &box->log, "init tells nonsense of its files: not heard any more");
        stop_reading(sy);
    }
}

static void on_watching(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    box->fenced = !err && value == 1;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, &box->log, "its files are not watched: %s", err->msg);
    shim_box__unref(box);
}

void shim_box__sync_begin(struct shim_box *box, bool again)
{
    struct shim_box_sync *sy = DBX_NEW(struct shim_box_sync);
    int fds[2];
    box->sync = sy;
    sy->fd = -1;
    sy->compare = again;
    dbx_buf_init(&sy->in, INIT_MAX_CHANGE + 2 * READ_SIZE);
    dbx_buf_init(&sy->block, MAX_BYTES + INIT_MAX_CHANGE + READ_SIZE);
    clear_batch(sy);
    sy->again = dbx_timer_new(box->execs->opts.loop, on_again, box);
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        dbx_log(DBX_LOG_WARN, &box->log, "its files are not watched: no pipe");
        return;
    }
    sy->fd = fds[0];
    sy->watch = dbx_watch_new(box->execs->opts.loop, sy->fd, DBX_READ, on_pipe, box);
    if (shim_init_watch(shim_sandbox_init(box->sb), BND_WORK_DIR, BND_USER_UID, BND_USER_GID,
                        ignored, sizeof(ignored), again, fds[1], on_watching, box) == 0)
        box->refs++;
    close(fds[1]);
}

bool shim_box__sync_rests(const struct shim_box *box)
{
    const struct shim_box_sync *sy = box->sync;
    return !sy || (sy->n == 0 && sy->in.len == 0 && !sy->busy);
}

void shim_box__sync_end(struct shim_box *box)
{
    struct shim_box_sync *sy = box->sync;
    if (!sy)
        return;
    stop_reading(sy);
    dbx_timer_stop(sy->again);
    send_batch(box);
}

void shim_box__sync_free(struct shim_box *box)
{
    struct shim_box_sync *sy = DBX_TAKE(box->sync);
    if (!sy)
        return;
    stop_reading(sy);
    dbx_timer_free(sy->again);
    clear_batch(sy);
    dbx_buf_done(&sy->in);
    dbx_buf_done(&sy->block);
    free(sy);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Files of record on their way into a workspace's sandbox: with each process all of them, of which
 * what differs is written; and, while the sandbox lives, what was changed since, as soon as it was.
 *
 * box->revision is that of the record up to which the sandbox has everything. What a program has
 * changed and the record does not have yet is left alone; then the revision stays where it was, and
 * when the program's change is a file of record, what is missing is asked for again. */
#include "shim/box_int.h"
#include "shim/box_table.h"
#include "shim/ledger.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/ext/json.h"
#include "common/proto/files.h"
#include "common/proto/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ASK_AGAIN_MS 5000 /* an answer is not waited for longer */

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

/* --- for the next shim --- */

struct saving {
    struct dbx_buf buf;
    int error;
};

static void save_one(struct saving *sv, const char *path, size_t len, bool folder, uint32_t mode,
                     int64_t revision, const uint8_t sha[static DBX_SHA256_LEN])
{
    struct shim_table_entry e = {
        .path = path, .path_len = len, .folder = folder, .mode = mode & 0777, .revision = revision};
    memcpy(e.sha, sha, sizeof(e.sha));
    if (sv->error == 0)
        sv->error = shim_table_add(&sv->buf, &e);
}

/* Of the record before a program removed it, which it does not know yet. */
static void save_removed(const char *path, const uint8_t sha[static DBX_SHA256_LEN], void *user)
{
    save_one(user, path, strlen(path), false, 0644, 0, sha);
}

/* What both have agreed on; a change that is on its way is none, and init tells it again. Without
 * it the next shim writes all of the record. */
static void save_files(struct shim_box *box)
{
    struct shim_ledger *lg = box->execs->opts.ledger ? *box->execs->opts.ledger : NULL;
    struct saving sv = {0};
    struct dbx_map_iter it = {0};
    if (!box->sb || box->ended || !lg)
        return;
    dbx_buf_init(&sv.buf, SHIM_LEDGER_MAX);
    if (box->revision < 0)
        sv.error = -ENOENT;
    else
        sv.error = shim_table_begin(&sv.buf, box->revision);
    while (sv.error == 0 && dbx_map_next(box->written, &it)) {
        const struct shim_written *wn = it.value;
        if (wn->agreed)
            save_one(&sv, it.key, it.key_len, wn->base_folder, wn->mode,
                     wn->local ? 0 : wn->revision, wn->base);
    }
    if (sv.error == 0)
        shim_box__sync_removed(box, save_removed, &sv);
    if (sv.error == 0)
        sv.error = shim_ledger_put(lg, SHIM_LG_FILES, &box->id, sv.buf.data, sv.buf.len);
    if (sv.error < 0)
        shim_ledger_del(lg, SHIM_LG_FILES, &box->id);
    dbx_buf_done(&sv.buf);
}

void shim_box__save_files(struct shim_box *box)
{
    save_files(box);
}

static void load_one(const struct shim_table_entry *e, void *user)
{
    struct shim_box *box = user;
    struct shim_written *wn = DBX_NEW(struct shim_written);
    *wn = (struct shim_written){.folder = e->folder,
                                .mode = e->mode,
                                .revision = e->revision,
                                .agreed = true,
                                .base_folder = e->folder};
    memcpy(wn->sha, e->sha, sizeof(wn->sha));
    memcpy(wn->base, e->sha, sizeof(wn->base));
    free(dbx_map_put(box->written, e->path, e->path_len, wn));
}

bool shim_box__load_files(struct shim_box *box)
{
    struct shim_ledger *lg = box->execs->opts.ledger ? *box->execs->opts.ledger : NULL;
    int64_t revision = -1;
    size_t len = 0;
    const uint8_t *data = lg ? shim_ledger_get(lg, SHIM_LG_FILES, &box->id, &len) : NULL;
    if (!data)
        return false;
    if (shim_table_read(data, len, &revision, load_one, box) < 0) {
        shim_box_forget_files(box);
        return false;
    }
    box->revision = revision;
    return true;
}

/* What stands in the table and not among the files of record is to be gone: what is deeper first.
 */
static int by_path_backwards(const void *a, const void *b)
{
    return -strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_gone(const char *path, size_t len, struct dbx_buf *out)
{
    const struct dbx_file f = {.gone = true, .path = path, .path_len = (uint16_t)len};
    return dbx_files_add(out, &f);
}

static int add_all_gone(struct shim_box *box, int64_t revision, struct dbx_buf *out)
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
        if (r == 0)
            r = add_gone(paths[i], strlen(paths[i]), out);
        free(paths[i]);
    }
    free(paths);
    return r;
}

/* Of several writes that are not done, what stood before the first. */
static void note_replaced(const struct shim_box *box, const struct shim_written *wn,
                          struct shim_written *now)
{
    bool under_way = wn->replaced && wn->writing > box->files_done;
    if (!under_way && (!wn->agreed || wn->folder))
        return;
    now->replaced = true;
    memcpy(now->was, under_way ? wn->was : wn->sha, sizeof(now->was));
    now->since = under_way ? wn->since : box->revision;
}

/* 1: it was left alone, for a program has changed it. */
static int add_changed(struct shim_box *box, int64_t revision, const struct dbx_file *f,
                       struct dbx_buf *out)
{
    struct shim_written *wn = dbx_map_get(box->written, f->path, f->path_len);
    struct shim_written now = {.folder = f->folder, .mode = f->mode, .wanted = true, .seen = true};
    dbx_sha256(f->data, f->folder ? 0 : f->size, now.sha);
    memcpy(now.base, now.sha, sizeof(now.base));
    now.agreed = true;
    now.base_folder = f->folder;
    if (wn ? newer(wn, revision) : shim_box__sync_has(box, f->path, f->path_len))
        return 1;
    bool same = wn && wn->folder == now.folder && wn->mode == now.mode &&
                memcmp(wn->sha, now.sha, sizeof(now.sha)) == 0;
    if (!wn) {
        wn = DBX_NEW(struct shim_written);
        (void)dbx_map_put(box->written, f->path, f->path_len, wn);
    } else if (!same) {
        note_replaced(box, wn, &now);
    }
    now.writing = same ? wn->writing : box->files_sent + 1;
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
    bool left_alone = false;
    int r;
    dbx_buf_init(out, INIT_MAX_FILES_BODY - 4096); /* leaves room for the path of the root */
    if (ex->rq->revision <= box->revision)
        return 0; /* those of an older process come late */
    r = dbx_files_begin(out);
    size_t empty = out->len;
    mark_wanted(box, files);
    if (r == 0)
        r = add_all_gone(box, ex->rq->revision, out);
    while (r >= 0 && files->len > 0 && dbx_files_next(files->data, files->len, &at, &f) > 0) {
        r = add_changed(box, ex->rq->revision, &f, out);
        left_alone |= r > 0;
    }
    if (r < 0) {
        shim_box_forget_files(box);
        return dbx_err_set(err, r, DBX_LIMIT, "the files do not fit into a block");
    }
    if (left_alone)
        box->behind = true;
    else
        box->revision = ex->rq->revision;
    if (out->len == empty)
        dbx_buf_clear(out);
    else
        box->files_sent++; /* by the caller */
    save_files(box);
    return 0;
}

/* --- while it lives --- */

static void fill_since(struct dbx_jw *w, void *arg)
{
    const struct shim_box *box = arg;
    dbx_jw_kstr(w, "sandbox_id", box->id_text);
    dbx_jw_ki64(w, "revision", box->revision);
}

void shim_box__pull(struct shim_box *box)
{
    const struct shim_execs_opts *o = &box->execs->opts;
    uint64_t now = dbx_now_ms();
    bool wanted = box->standby && !box->ready;
    if (!box->sb || box->ended || !o->tell || (box->revision < 0 && !wanted))
        return; /* nothing is known: the next process brings all */
    if (box->asked_ms && now - box->asked_ms < ASK_AGAIN_MS) {
        box->ask_again = true;
        return;
    }
    box->ask_again = false;
    box->asked_ms = o->tell("files_since", fill_since, box, o->user) ? now : 0;
}

void shim_box_news(struct shim_box *box, int64_t revision)
{
    if (revision > box->revision)
        shim_box__pull(box);
}

void shim_boxes_pull(struct shim_execs *execs)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(execs->boxes, &it)) {
        struct shim_box *box = it.value;
        box->asked_ms = 0; /* of an answer that will not come */
        shim_box__pull(box);
    }
}

static int take_gone(struct shim_box *box, int64_t revision, const struct dbx_file *f,
                     struct dbx_buf *out)
{
    struct shim_written *wn = dbx_map_get(box->written, f->path, f->path_len);
    if (!wn)
        return 0; /* it never was there, or a program has removed it */
    if (newer(wn, revision))
        return 1;
    free(dbx_map_del(box->written, f->path, f->path_len));
    return add_gone(f->path, f->path_len, out);
}

/* Something else stands there. */
static int clear_way(struct shim_box *box, int64_t revision, const struct dbx_file *f,
                     struct dbx_buf *out)
{
    const struct shim_written *wn = dbx_map_get(box->written, f->path, f->path_len);
    return wn && wn->folder != f->folder ? take_gone(box, revision, f, out) : 0;
}

static int apply(struct shim_box *box, const struct dbx_link_msg *m, int64_t revision,
                 struct dbx_buf *out, bool *ret_left_alone)
{
    struct dbx_file f;
    size_t at = 0;
    int r = 0;
    while (r >= 0 && dbx_files_next(m->blob, m->blob_len, &at, &f) > 0) {
        if (f.gone) {
            r = take_gone(box, revision, &f, out);
        } else {
            r = clear_way(box, revision, &f, out);
            if (r == 0)
                r = add_changed(box, revision, &f, out);
        }
        *ret_left_alone |= r > 0;
    }
    return r < 0 ? r : 0;
}

static void on_written(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    (void)value;
    if (err && err->code != -ECANCELED) {
        dbx_log(DBX_LOG_WARN, &box->log, "writing changed files: %s", err->msg);
        shim_box_forget_files(box);
        save_files(box);
    }
    box->writing--;
    if (!err)
        shim_box__look_ready(box);
    shim_box__unref(box);
}

static void write_block(struct shim_box *box, const struct dbx_buf *out)
{
    int r = shim_init_files(shim_sandbox_init(box->sb), BND_WORK_DIR, BND_USER_UID, BND_USER_GID,
                            out->data, out->len, 0, on_written, box);
    box->files_sent++;
    if (r == 0)
        box->refs++, box->writing++;
    else
        shim_box_forget_files(box);
}

int shim_box_record_files(struct shim_box *box, const struct dbx_link_msg *m, struct dbx_err *err)
{
    int64_t since = dbx_json_get_i64(m->header, "since", -2);
    int64_t revision = dbx_json_get_i64(m->header, "revision", -1);
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {0};
    bool left_alone = false;
    int r = dbx_files_check(m->blob, m->blob_len, err);
    if (r < 0)
        return r;
    if (since < -1 || revision < 0)
        return dbx_err_field(err, "revision", "out of range");
    box->asked_ms = 0;
    if (!box->sb || box->ended)
        return 0;
    /* What changed since a later revision than we have is not all. */
    if (since <= box->revision && revision > box->revision) {
        dbx_buf_init(&out, INIT_MAX_FILES_BODY - 4096);
        r = dbx_files_begin(&out);
        size_t empty = out.len;
        r = r ? r : apply(box, m, revision, &out, &left_alone);
        if (r < 0)
            shim_box_forget_files(box);
        else if (left_alone)
            box->behind = true;
        else
            box->revision = revision;
        if (r == 0 && out.len > empty)
            write_block(box, &out);
        save_files(box);
    }
    shim_box__look_ready(box);
    if (box->ask_again)
        shim_box__pull(box);
    return 0;
}

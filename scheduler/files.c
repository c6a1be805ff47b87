/* SPDX-License-Identifier: Apache-2.0 */
/* What programs did to the files of a workspace: from the node of its sandbox to the files of
 * record. The database decides, in one function that locks the workspace (schema 005). */
#include "common/proto/files.h"
#include "common/base/buf.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/proto/link.h"
#include "common/proto/path.h"
#include "scheduler/messages.h"
#include "scheduler/sched.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHANGES 256
#define MAX_ARRAY (64u << 20)
enum { PATHS, KINDS, CONTENTS, BASES, SIZES, COLUMNS };
_Static_assert(COLUMNS == SCHED_FILES_COLUMNS, "messages.h says how many");

struct report {
    struct sched *s;
    uint64_t reign;
    struct sched_target target;
};

/* ---- decoding, into array literals ---- */

static int put_quoted(struct dbx_buf *a, const char *s)
{
    int r = dbx_buf_str(a, "\"");
    for (; r == 0 && *s; s++) {
        if (*s == '"' || *s == '\\')
            r = dbx_buf_str(a, "\\");
        if (r == 0)
            r = dbx_buf_append(a, s, 1);
    }
    return r ? r : dbx_buf_str(a, "\"");
}

static int put_content(struct dbx_buf *a, const struct dbx_file *f)
{
    if (!f)
        return dbx_buf_str(a, "NULL");
    DBX_CLEANUP(dbx_freep) char *hex = dbx_malloc(2 * (size_t)f->size + 1);
    dbx_hex_encode(f->data, (size_t)f->size, hex);
    int r = dbx_buf_str(a, "\"\\\\x");
    if (r == 0)
        r = dbx_buf_append(a, hex, 2 * (size_t)f->size);
    return r ? r : dbx_buf_str(a, "\"");
}

static bool base_ok(const char *base)
{
    size_t len = base ? strlen(base) : 1;
    return len == 0 || (len == 64 && strspn(base, "0123456789abcdef") == 64);
}

static int put_change(struct dbx_buf col[COLUMNS], const struct dbx_json *node,
                      const struct dbx_link_msg *m, size_t *at, struct dbx_err *err)
{
    static const char *const kinds[] = {"file", "folder", "gone", "skipped"};
    const char *kind = dbx_json_get_str(node, "kind"), *path = dbx_json_get_str(node, "path");
    const char *base = dbx_json_get_str(node, "base");
    int64_t size = dbx_json_get_i64(node, "size", -1);
    struct dbx_file f;
    bool known = false, file = dbx_streq(kind, "file");
    for (size_t i = 0; i < DBX_ARRAY_LEN(kinds); i++)
        known |= dbx_streq(kind, kinds[i]);
    if (!known || !path || !base_ok(base) || size < 0)
        return dbx_err_field(err, "changes", "one of them is none");
    int r = dbx_path_check(path, strlen(path), "changes", err);
    if (r < 0)
        return r;
    if (file && (dbx_files_next(m->blob, m->blob_len, at, &f) <= 0 || f.folder || f.gone ||
                 f.path_len != strlen(path) || memcmp(f.path, path, f.path_len) != 0))
        return dbx_err_field(err, "changes", "a file has no content");
    for (size_t i = 0; i < COLUMNS && r == 0; i++)
        r = dbx_buf_str(&col[i], col[i].len ? "," : "{");
    r = r ? r : put_quoted(&col[PATHS], path);
    r = r ? r : put_quoted(&col[KINDS], kind);
    r = r ? r : put_content(&col[CONTENTS], file ? &f : NULL);
    r = r ? r : put_quoted(&col[BASES], base);
    r = r ? r : dbx_buf_printf(&col[SIZES], "%lld", (long long)size);
    return r < 0 ? dbx_err_set(err, r, DBX_LIMIT, "too much at once") : 0;
}

int sched_files_decode(const struct dbx_link_msg *m, struct dbx_buf col[SCHED_FILES_COLUMNS],
                       struct dbx_err *err)
{
    const struct dbx_json *changes = dbx_json_get(m->header, "changes");
    size_t n = dbx_json_count(changes), at = 0;
    if (dbx_json_type(changes) != DBX_JSON_ARRAY || n == 0 || n > MAX_CHANGES)
        return dbx_err_field(err, "changes", "not a list of 1 to %d", MAX_CHANGES);
    int r = dbx_files_check(m->blob, m->blob_len, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = put_change(col, dbx_json_at(changes, i), m, &at, err);
    for (size_t i = 0; r == 0 && i < COLUMNS; i++)
        r = dbx_buf_str(&col[i], "}");
    return r;
}

/* ---- to the database ---- */

static void fill_answer(struct dbx_jw *w, void *arg)
{
    const struct dbx_pg_result *res = arg;
    dbx_jw_ki64(w, "before", dbx_pg_i64(res, 0, "before", -1));
    dbx_jw_ki64(w, "after", dbx_pg_i64(res, 0, "after", 0));
}

static void on_written(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct report *rp = user;
    struct sched *s = rp->s;
    struct sched_conn *cn =
        s->leading && s->reign == rp->reign ? sched_conn_find(s, rp->target.conn) : NULL;
    struct dbx_err none = {0};

    if (!err && dbx_pg_rows(res) == 0) {
        (void)dbx_err_set(&none, -ENOENT, DBX_NOT_FOUND, "no workspace has this sandbox there");
        err = &none;
    }
    if (cn && err)
        (void)dbx_link_reply_error(cn->link, rp->target.rid, err);
    else if (cn)
        (void)dbx_link_reply(cn->link, rp->target.rid, fill_answer, (void *)res);
    free(rp);
}

void sched_node_files(struct sched_conn *cn, const struct dbx_link_msg *m)
{
    struct dbx_buf col[COLUMNS];
    struct dbx_err err = {0};
    struct dbx_id id;
    char text[DBX_ID_TEXT];
    int r = sched_id_field(m->header, "sandbox_id", &id, &err);

    for (size_t i = 0; i < COLUMNS; i++)
        dbx_buf_init(&col[i], MAX_ARRAY);
    if (r == 0)
        r = sched_files_decode(m, col, &err);
    if (r < 0) {
        (void)dbx_link_reply_error(cn->link, m->rid, &err);
    } else {
        struct report *rp = DBX_NEW(struct report);
        rp->s = cn->s;
        rp->reign = cn->s->reign;
        rp->target = (struct sched_target){.conn = cn->id, .rid = m->rid};
        dbx_id_format(&id, text);
        struct dbx_pg_param params[2 + COLUMNS] = {DBX_PG_TEXT(text), DBX_PG_TEXT(cn->node->id)};
        for (size_t i = 0; i < COLUMNS; i++)
            params[2 + i] = DBX_PG_TEXT(dbx_buf_cstr(&col[i]));
        dbx_pg_query(cn->s->pg, "files", params, 2 + COLUMNS, on_written, rp);
    }
    for (size_t i = 0; i < COLUMNS; i++)
        dbx_buf_done(&col[i]);
}

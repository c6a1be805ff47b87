/* SPDX-License-Identifier: Apache-2.0 */
/* A channel of kind "tree": the files of the workspace, then what happens to them. It stands at a
 * number of the events; what follows that is read whenever the workspace is said to have changed.
 * So nothing comes twice, and what was missed comes as soon as there is a reason to look. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/gw.h"
#include "gateway/request.h"
#include "gateway/result.h"
#include "gateway/socket_int.h"
#include "gateway/workspaces_int.h"

#define MAX_TREE (4u << 20)
#define MAX_EVENTS (4u << 20)
#define BATCH 500 /* as in socket_sql.c */

struct tree {
    int64_t since; /* where it stands */
    bool known;    /* `since` is a place */
    bool busy, again, behind;
};

static void look(struct gw_channel *ch);

static void on_tree(struct gw_channel *ch, const struct dbx_pg_result *res,
                    const struct dbx_err *err)
{
    struct tree *t = ch->state;
    struct dbx_buf buf;
    t->busy = false;
    if (err) {
        gw_channel_end(ch, "unavailable", "the database cannot be reached, try again");
        return;
    }
    if (dbx_pg_rows(res) == 0) {
        gw_channel_end(ch, "not_found", "the workspace is gone");
        return;
    }
    t->since = dbx_pg_i64(res, 0, "seq", 0);
    t->known = true;
    struct dbx_jw *w = gw_channel_begin(ch->sk, ch, "tree", &buf, MAX_TREE);
    dbx_jw_ki64(w, "seq", t->since);
    dbx_jw_key(w, "entries");
    dbx_jw_array(w);
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        if (!dbx_pg_text(res, i, "id", NULL))
            continue; /* the workspace has none */
        dbx_jw_object(w);
        gw_put_entry(w, res, i);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
    gw_channel_send(ch->sk, &buf, &w);
    if (t->again)
        look(ch);
}

static void put_event(struct dbx_jw *w, const struct dbx_pg_result *res, size_t row)
{
    static const char *const columns[] = {"op", "path", "from_path", "type", "etag", "detail"};
    dbx_jw_object(w);
    dbx_jw_ki64(w, "seq", dbx_pg_i64(res, row, "seq", 0));
    dbx_jw_kstr(w, "id", dbx_pg_text(res, row, "file_id", NULL));
    for (size_t i = 0; i < DBX_ARRAY_LEN(columns); i++)
        dbx_jw_kstr(w, columns[i], dbx_pg_text(res, row, columns[i], NULL));
    dbx_jw_ki64(w, "size", dbx_pg_i64(res, row, "size", 0));
    gw_put_time(w, "updated_at", dbx_pg_i64(res, row, "at_us", 0));
    dbx_jw_object_end(w);
}

static void on_events(struct gw_channel *ch, const struct dbx_pg_result *res,
                      const struct dbx_err *err)
{
    struct tree *t = ch->state;
    struct dbx_buf buf;
    size_t n = err ? 0 : dbx_pg_rows(res);
    t->busy = false;
    if (err) {
        gw_channel_end(ch, "unavailable", "the database cannot be reached, try again");
        return;
    }
    if (n == 0) {
        gw_channel_end(ch, "not_found", "the workspace is gone");
        return;
    }
    if (t->since < dbx_pg_i64(res, 0, "oldest", 1) - 1) {
        t->known = false; /* some of what was missed is not kept any more */
        look(ch);
        return;
    }
    if (dbx_pg_i64(res, 0, "seq", 0) > 0) {
        struct dbx_jw *w = gw_channel_begin(ch->sk, ch, "events", &buf, MAX_EVENTS);
        t->since = dbx_pg_i64(res, n - 1, "seq", 0);
        dbx_jw_ki64(w, "seq", t->since);
        dbx_jw_key(w, "events");
        dbx_jw_array(w);
        for (size_t i = 0; i < n; i++)
            put_event(w, res, i);
        dbx_jw_array_end(w);
        gw_channel_send(ch->sk, &buf, &w);
    }
    if (t->again || n == BATCH)
        look(ch);
}

/* One question at a time; a client that does not read is asked about again when he does. */
static void look(struct gw_channel *ch)
{
    struct tree *t = ch->state;
    char id[DBX_ID_TEXT], since[24];
    t->again = t->busy;
    t->behind = gw_socket_full(ch->sk);
    if (t->busy || t->behind)
        return;
    t->busy = true;
    dbx_id_format(&ch->sk->workspace, id);
    snprintf(since, sizeof(since), "%" PRId64, t->since);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id), DBX_PG_TEXT(since)};
    if (t->known)
        gw_channel_ask(ch, "socket_events", params, 2, on_events);
    else
        gw_channel_ask(ch, "socket_tree", params, 1, on_tree);
}

static void open_tree(struct gw_channel *ch)
{
    struct tree *t = ch->state;
    t->known = t->since > 0;
    look(ch);
}

static void drain(struct gw_channel *ch)
{
    struct tree *t = ch->state;
    if (t->behind)
        look(ch);
}

static void close_tree(struct gw_channel *ch)
{
    (void)ch;
}

static const struct dbx_json_field fields[] = {
    {"since", DBX_JSON_INT, offsetof(struct tree, since), DBX_JSON_NULLABLE, 0, INT64_MAX, false},
};

const struct gw_channel_kind gw_channel_tree = {.name = "tree",
                                                .fields = fields,
                                                .nfields = DBX_ARRAY_LEN(fields),
                                                .size = sizeof(struct tree),
                                                .open = open_tree,
                                                .poke = look,
                                                .drain = drain,
                                                .close = close_tree};

/* SPDX-License-Identifier: Apache-2.0 */
/* What others do to the files of a workspace, on its way to its sandbox. The database notifies of a
 * change, whoever made it; the node of the sandbox is told, asks what is new since what it has, and
 * is given that. Nothing is kept here: a notification that is lost costs time until the next one,
 * or until the node says hello. */
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "common/proto/contents.h"
#include "common/proto/files.h"
#include "common/proto/link.h"
#include "scheduler/messages.h"
#include "scheduler/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOON_MS 5      /* what comes together is asked for together */
#define MAX_DIRTY 4096 /* workspaces; more: all nodes are to look */

struct sched_news {
    struct sched *s;
    struct dbx_pg_session *listener;
    struct dbx_map *dirty; /* workspaces */
    struct dbx_timer *timer;
    bool all;
};

struct asked {
    struct sched *s;
    uint64_t reign, conn;
    struct dbx_id sandbox;
    int64_t since;
};

/* ---- that something is new ---- */

struct told {
    const char *sandbox;
    int64_t revision;
};

static void fill_changed(struct dbx_jw *w, void *arg)
{
    const struct told *t = arg;

    dbx_jw_kstr(w, "sandbox_id", t->sandbox);
    dbx_jw_ki64(w, "revision", t->revision);
}

static void tell_all(struct sched *s)
{
    struct dbx_list *it, *next;

    dbx_list_each(it, next, sched_core_nodes(s->core))
    {
        const struct sched_node *node = dbx_list_entry(it, struct sched_node, _node);
        struct sched_conn *cn = node->online ? sched_conn_find(s, node->conn) : NULL;
        if (cn && dbx_link_is_up(cn->link))
            (void)dbx_link_send(cn->link, "files_changed", NULL, NULL, NULL, 0);
    }
}

static void on_boxes(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct asked as = *(struct asked *)user;
    struct sched *s = as.s;

    free(user);
    if (err || !s->leading || s->reign != as.reign)
        return; /* the node's hello, or the next change, makes up for it */
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        const struct sched_node *node =
            sched_core_node(s->core, dbx_pg_text(res, i, "node_id", NULL), /* create= */ false);
        struct sched_conn *cn = node && node->online ? sched_conn_find(s, node->conn) : NULL;
        struct told t = {.sandbox = dbx_pg_text(res, i, "id", NULL),
                         .revision = dbx_pg_i64(res, i, "revision", 0)};
        if (cn && dbx_link_is_up(cn->link))
            (void)dbx_link_send(cn->link, "files_changed", fill_changed, &t, NULL, 0);
    }
}

static void forget(struct sched_news *nw)
{
    struct dbx_map_iter it = {0};

    while (dbx_map_next(nw->dirty, &it))
        (void)dbx_map_del(nw->dirty, it.key, it.key_len);
    nw->all = false;
}

static void on_timer(void *user)
{
    struct sched_news *nw = user;
    struct sched *s = nw->s;
    struct dbx_map_iter it = {0};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf ids = {0};
    char text[DBX_ID_TEXT];
    struct dbx_id id;
    int r;

    if (!s->leading || nw->all) {
        if (s->leading)
            tell_all(s);
        forget(nw);
        return;
    }
    dbx_buf_init(&ids, 1u << 20);
    r = dbx_buf_str(&ids, "{");
    while (r == 0 && dbx_map_next(nw->dirty, &it)) {
        memcpy(id.b, it.key, sizeof(id.b));
        dbx_id_format(&id, text);
        r = dbx_buf_printf(&ids, "%s%s", ids.len > 1 ? "," : "", text);
    }
    r = r ? r : dbx_buf_str(&ids, "}");
    dbx_assert(r == 0); /* MAX_DIRTY of 37 bytes */
    forget(nw);
    const struct dbx_pg_param param = DBX_PG_TEXT(dbx_buf_cstr(&ids));
    struct asked *as = DBX_NEW(struct asked);
    as->s = s;
    as->reign = s->reign;
    dbx_pg_query(s->pg, "boxes_of", &param, 1, on_boxes, as);
}

static void on_notify(struct dbx_pg_session *session, const char *channel, const char *payload,
                      void *user)
{
    struct sched_news *nw = user;
    struct dbx_id id;

    (void)session;
    (void)channel;
    if (!nw->s->leading || !sched_core_has_boxes(nw->s->core) || dbx_id_parse(payload, &id) < 0)
        return;
    if (dbx_map_count(nw->dirty) >= MAX_DIRTY)
        nw->all = true;
    else
        (void)dbx_map_put(nw->dirty, id.b, sizeof(id.b), nw);
    dbx_timer_start(nw->timer, SOON_MS, 0);
}

static void on_listening(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched_news *nw = user;

    (void)res;
    if (err)
        return;
    nw->all = true; /* while we did not listen anything may have happened */
    dbx_timer_start(nw->timer, SOON_MS, 0);
}

static void on_up(struct dbx_pg_session *session, void *user)
{
    dbx_pg_session_exec(session, "listen devbox_files", on_listening, user);
}

static void on_down(struct dbx_pg_session *session, const struct dbx_err *err, void *user)
{
    (void)session;
    (void)user;
    dbx_log(DBX_LOG_WARN, NULL, "events of files: %s", err->msg);
}

struct sched_news *sched_news_new(struct sched *s)
{
    static const struct dbx_pg_session_handlers handlers = {
        .on_up = on_up, .on_down = on_down, .on_notify = on_notify};
    struct sched_news *nw = DBX_NEW(struct sched_news);

    nw->s = s;
    nw->dirty = dbx_map_new();
    nw->timer = dbx_timer_new(s->loop, on_timer, nw);
    nw->listener = dbx_pg_session_new(s->loop, s->cfg->database, &handlers, nw);
    return nw;
}

struct sched_news *sched_news_free(struct sched_news *nw)
{
    if (!nw)
        return NULL;
    dbx_pg_session_free(nw->listener);
    dbx_timer_free(nw->timer);
    dbx_map_free(nw->dirty);
    free(nw);
    return NULL;
}

/* ---- what is new ---- */

/* What goes to one node, while its large contents are on their way here. */
struct news {
    struct asked as;
    int64_t revision;
    struct dbx_contents *contents; /* one for each entry */
    struct entry {
        char *path; /* owned */
        bool folder, gone;
    } * entries;
    size_t n;
};

static void free_news(struct news *ns)
{
    dbx_contents_free(ns->contents);
    for (size_t i = 0; i < ns->n; i++)
        free(ns->entries[i].path);
    free(ns->entries);
    free(ns);
}

static int add_entry(struct dbx_buf *out, const struct news *ns, size_t i)
{
    const struct entry *e = &ns->entries[i];
    const struct dbx_content *c = dbx_contents_at(ns->contents, i);
    bool script = c->len > 2 && memcmp(c->data, "#!", 2) == 0;
    const struct dbx_file f = {.gone = e->gone,
                               .folder = e->folder,
                               .mode = e->gone               ? 0
                                       : e->folder || script ? 0755
                                                             : 0644,
                               .path = e->path,
                               .path_len = (uint16_t)strlen(e->path),
                               .data = c->data,
                               .size = c->len};
    return dbx_files_add(out, &f);
}

/* What is gone first, and what is deeper before what it is in; then the rest, from above. */
static int make_block(struct dbx_buf *out, const struct news *ns)
{
    int r = dbx_files_begin(out);

    for (size_t i = ns->n; r == 0 && i-- > 0;)
        if (ns->entries[i].gone)
            r = add_entry(out, ns, i);
    for (size_t i = 0; r == 0 && i < ns->n; i++)
        if (!ns->entries[i].gone)
            r = add_entry(out, ns, i);
    return r;
}

static void fill_files(struct dbx_jw *w, void *arg)
{
    const struct news *ns = arg;
    char text[DBX_ID_TEXT];

    dbx_id_format(&ns->as.sandbox, text);
    dbx_jw_kstr(w, "sandbox_id", text);
    dbx_jw_ki64(w, "since", ns->as.since);
    dbx_jw_ki64(w, "revision", ns->revision);
}

static struct sched_conn *conn_of(const struct asked *as)
{
    struct sched *s = as->s;
    return s->leading && s->reign == as->reign ? sched_conn_find(s, as->conn) : NULL;
}

static void on_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *user)
{
    struct news *ns = user;
    struct sched_conn *cn = conn_of(&ns->as);
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf block = {0};

    (void)cs;
    dbx_buf_init(&block, DBX_MAX_LINK_MSG - 4096);
    if (err)
        dbx_log(DBX_LOG_WARN, NULL, "files of a workspace, asked for again: %s", err->msg);
    else if (cn && make_block(&block, ns) == 0)
        (void)dbx_link_send(cn->link, "record_files", fill_files, ns, block.data, block.len);
    else if (cn)
        dbx_log(DBX_LOG_ERR, NULL, "the files of a workspace do not fit into a message");
    free_news(ns);
}

static void on_files(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct asked as = *(struct asked *)user;

    free(user);
    if (err || !conn_of(&as) || dbx_pg_rows(res) == 0)
        return; /* asked again, when there is need */
    struct news *ns = DBX_NEW(struct news);
    ns->as = as;
    ns->revision = dbx_pg_i64(res, 0, "revision", 0);
    ns->contents = dbx_contents_new(as.s->loop, as.s->blobs);
    ns->entries = dbx_calloc(dbx_pg_rows(res), sizeof(*ns->entries));
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        const char *path = dbx_pg_text(res, i, "path", NULL);
        const char *type = dbx_pg_text(res, i, "type", NULL);
        if (!path)
            continue; /* nothing is new */
        ns->entries[ns->n++] = (struct entry){
            .path = dbx_strdup(path), .folder = dbx_streq(type, "directory"), .gone = !type};
        dbx_contents_add(ns->contents, res, i);
    }
    if (dbx_contents_here(ns->contents))
        on_loaded(ns->contents, NULL, ns);
    else
        dbx_contents_load(ns->contents, on_loaded, ns);
}

int sched_node_files_since(struct sched_conn *cn, const struct dbx_link_msg *m, struct dbx_err *err)
{
    int64_t since = dbx_json_get_i64(m->header, "revision", -2);
    char text[DBX_ID_TEXT], number[24];
    struct dbx_id id;
    int r = sched_id_field(m->header, "sandbox_id", &id, err);

    if (r < 0)
        return r;
    if (since < -1)
        return dbx_err_field(err, "revision", "is out of range");
    struct asked *as = DBX_NEW(struct asked);
    as->s = cn->s;
    as->reign = cn->s->reign;
    as->conn = cn->id;
    as->sandbox = id;
    as->since = since;
    dbx_id_format(&id, text);
    (void)snprintf(number, sizeof(number), "%lld", (long long)since);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(cn->node->id),
                                          DBX_PG_TEXT(number)};
    dbx_pg_query(cn->s->pg, "files_since", params, DBX_ARRAY_LEN(params), on_files, as);
    return 0;
}

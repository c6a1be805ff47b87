/* SPDX-License-Identifier: Apache-2.0 */
/* A channel of kind "processes": the stream of one sandbox of the workspace, its messages those of
 * /api/stream with the channel's number. A session (session.h) does the work; here it gets its
 * words from a channel instead of a socket of its own. */
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/gw.h"
#include "gateway/request.h"
#include "gateway/session_int.h"
#include "gateway/socket_int.h"

#define MAX_RESUME 32
#define MAX_SAID (4u << 20)

struct processes {
    const char *sandbox_id;
    const struct dbx_json *resume;
    struct gw_session *ss; /* NULL until the sandbox is known to be the workspace's */
    struct dbx_id sandbox;
    char **from; /* owned, as ss->resume */
    size_t n_from;
};

static void on_sandbox(struct gw_channel *ch, const struct dbx_pg_result *res,
                       const struct dbx_err *err)
{
    struct processes *p = ch->state;
    if (err) {
        gw_channel_end(ch, "unavailable", "the database cannot be reached, try again");
    } else if (dbx_pg_rows(res) == 0) {
        gw_channel_end(ch, "not_found", "there is no such sandbox in this workspace");
    } else if (!ch->sk->gw->olog) {
        gw_channel_end(ch, "unavailable", "output cannot be read here now, try again");
    } else {
        p->ss = gw_session_of_channel(ch, &p->sandbox, DBX_TAKE(p->from), p->n_from);
        gw_stream_start(p->ss);
    }
}

static bool take_resume(struct processes *p, const struct dbx_json *list)
{
    size_t n = dbx_json_count(list);
    if (n > MAX_RESUME)
        return false;
    p->from = dbx_calloc(n + 1, sizeof(*p->from));
    for (size_t i = 0; i < n; i++) {
        const char *text = dbx_json_str(dbx_json_at(list, i), NULL);
        if (!text || gw_resume_parse(text, false, &(struct dbx_id){0}) < 0)
            return false;
        p->from[p->n_from++] = dbx_strdup(text);
    }
    return true;
}

static void open_processes(struct gw_channel *ch)
{
    struct processes *p = ch->state;
    char sandbox[DBX_ID_TEXT], workspace[DBX_ID_TEXT];
    if (dbx_id_parse(p->sandbox_id, &p->sandbox) < 0) {
        gw_channel_end(ch, "not_found", "there is no such sandbox in this workspace");
        return;
    }
    if (!take_resume(p, p->resume)) {
        gw_channel_end(ch, "invalid", "resume: must be a list of PROCESS_ID:LAST_SEEN_ID");
        return;
    }
    dbx_id_format(&p->sandbox, sandbox);
    dbx_id_format(&ch->sk->workspace, workspace);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(sandbox), DBX_PG_TEXT(workspace)};
    gw_channel_ask(ch, "socket_sandbox", params, DBX_ARRAY_LEN(params), on_sandbox);
}

/* The same message without "ch". */
static void said(struct gw_channel *ch, const struct dbx_json *root)
{
    struct processes *p = ch->state;
    struct dbx_buf buf;
    if (!p->ss) {
        gw_channel_error(ch->sk, ch, "not_ready", "wait for `ready`");
        return;
    }
    dbx_buf_init(&buf, MAX_SAID);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    for (size_t i = 0; i < dbx_json_count(root); i++) {
        const struct dbx_json *value;
        const char *key = dbx_json_key(root, i, &value);
        if (dbx_streq(key, "ch"))
            continue;
        dbx_jw_key(w, key);
        dbx_jw_node(w, value);
    }
    dbx_jw_object_end(w);
    if (dbx_jw_end(&w) < 0)
        gw_channel_error(ch->sk, ch, "invalid", "the message is too large");
    else
        gw_session_said(p->ss, false, buf.data, buf.len);
    dbx_buf_done(&buf);
}

static void drain(struct gw_channel *ch)
{
    struct processes *p = ch->state;
    if (p->ss)
        gw_stream_go_on(p->ss);
}

static void close_processes(struct gw_channel *ch)
{
    struct processes *p = ch->state;
    if (p->ss)
        gw_session_left(DBX_TAKE(p->ss));
    for (size_t i = 0; p->from && i < p->n_from; i++)
        free(p->from[i]);
    free(p->from);
}

static const struct dbx_json_field fields[] = {
    {"sandbox_id", DBX_JSON_STRING, offsetof(struct processes, sandbox_id), DBX_JSON_REQUIRED, 0, 0,
     false},
    {"resume", DBX_JSON_ARRAY, offsetof(struct processes, resume), DBX_JSON_NULLABLE, 0, 0, false},
};

const struct gw_channel_kind gw_channel_processes = {.name = "processes",
                                                     .fields = fields,
                                                     .nfields = DBX_ARRAY_LEN(fields),
                                                     .size = sizeof(struct processes),
                                                     .open = open_processes,
                                                     .message = said,
                                                     .drain = drain,
                                                     .close = close_processes};

/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "gateway/gw.h"
#include "gateway/session_int.h"
#include "gateway/socket.h"
#include "gateway/store.h"

#define POLL_MS 1500
#define RECHECK_MS 15000
#define MAX_BATCH 500 /* sessions in one question */
#define MAX_ARRAY (MAX_BATCH * 48u)

struct gw_access {
    struct gw *gw;
    struct dbx_timer *timer;
    int64_t epoch;
    uint64_t checked_ms;
    bool asked;
};

const char *gw_role_name(enum dbx_role role)
{
    static const char *const names[] = {NULL, "viewer", "editor", "owner", "admin"};
    return (size_t)role < DBX_ARRAY_LEN(names) ? names[role] : NULL;
}

bool gw_role_at_least(struct gw_req *rq, const struct dbx_pg_result *res, enum dbx_role need)
{
    rq->role = (enum dbx_role)dbx_pg_i64(res, 0, "role", DBX_ROLE_NONE);
    return rq->role >= need;
}

void gw_credential_label(const struct gw_user *user, char out[static 65])
{
    char id[DBX_ID_TEXT];
    dbx_id_format(&user->credential, id);
    if (user->by == GW_CRED_NONE)
        out[0] = '\0';
    else
        snprintf(out, 65, "%c:%s", user->by == GW_CRED_KEY ? 'k' : 's', id);
}

/* --- streams that are open --- */

/* One question about several of them; they are held until it is answered. */
struct check {
    size_t n;
    struct gw_session *sessions[MAX_BATCH];
};

static void judge(struct gw_session *ss, enum dbx_role role)
{
    if (role >= ss->role || !ss->ws)
        return;
    if (role == DBX_ROLE_NONE)
        gw_session_close(ss, 1008, "revoked");
    else
        ss->role = role; /* what he says next is judged by it */
}

static void on_checked(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct check *ck = arg;
    for (size_t i = 0; i < ck->n; i++) {
        if (!err && i < dbx_pg_rows(res))
            judge(ck->sessions[i], (enum dbx_role)dbx_pg_i64(res, i, "role", DBX_ROLE_NONE));
        gw_session_unref(ck->sessions[i]);
    }
    free(ck);
}

static void add_text(struct dbx_buf *array, const char *text)
{
    int r = dbx_buf_printf(array, "%s\"%s\"", array->len > 1 ? "," : "", text);
    dbx_assert(r == 0); /* ids and labels: MAX_ARRAY is room for all */
}

/* A label of ours, that is: nothing that an array of PostgreSQL would read otherwise. */
static bool plain(const char *label)
{
    return strspn(label, "0123456789abcdef-:ks") == strlen(label);
}

static void ask(struct gw *gw, struct check *ck)
{
    struct dbx_buf arrays[4];
    char id[DBX_ID_TEXT];
    for (size_t i = 0; i < DBX_ARRAY_LEN(arrays); i++) {
        dbx_buf_init(&arrays[i], MAX_ARRAY);
        dbx_buf_str(&arrays[i], "{");
    }
    for (size_t i = 0; i < ck->n; i++) {
        struct gw_session *ss = ck->sessions[i];
        gw_session_ref(ss);
        dbx_id_format(&ss->sandbox, id);
        add_text(&arrays[0], id);
        dbx_id_format(&ss->user, id);
        add_text(&arrays[1], id);
        add_text(&arrays[2], ss->role == DBX_ROLE_ADMIN ? "t" : "f");
        add_text(&arrays[3], plain(ss->credential) ? ss->credential : "");
    }
    for (size_t i = 0; i < DBX_ARRAY_LEN(arrays); i++)
        dbx_buf_str(&arrays[i], "}");
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(dbx_buf_cstr(&arrays[0])), DBX_PG_TEXT(dbx_buf_cstr(&arrays[1])),
        DBX_PG_TEXT(dbx_buf_cstr(&arrays[2])), DBX_PG_TEXT(dbx_buf_cstr(&arrays[3]))};
    dbx_pg_query(gw_store_pg(gw->store), "access_check", params, DBX_ARRAY_LEN(params), on_checked,
                 ck);
    for (size_t i = 0; i < DBX_ARRAY_LEN(arrays); i++)
        dbx_buf_done(&arrays[i]);
}

void gw_access_check(struct gw_session *ss)
{
    struct check *ck = DBX_NEW(struct check);
    ck->sessions[ck->n++] = ss;
    ask(ss->gw, ck);
}

static void check_all(struct gw *gw)
{
    struct dbx_list *node, *tmp;
    struct check *ck = NULL;
    dbx_list_each(node, tmp, &gw->sessions)
    {
        struct gw_session *ss = dbx_list_entry(node, struct gw_session, node);
        if (!ss->ws)
            continue;
        if (!ck)
            ck = DBX_NEW(struct check);
        ck->sessions[ck->n++] = ss;
        if (ck->n == MAX_BATCH)
            ask(gw, DBX_TAKE(ck));
    }
    if (ck)
        ask(gw, ck);
}

static void on_epoch(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct gw_access *ac = arg;
    uint64_t now = dbx_now_ms();
    ac->asked = false;
    if (err)
        return; /* asked again soon */
    int64_t epoch = dbx_pg_i64(res, 0, "n", -1);
    if (epoch == ac->epoch && now - ac->checked_ms < RECHECK_MS)
        return;
    ac->epoch = epoch;
    ac->checked_ms = now;
    check_all(ac->gw);
    gw_sockets_check(ac->gw);
}

static void on_timer(void *user)
{
    struct gw_access *ac = user;
    if (ac->asked || (dbx_list_empty(&ac->gw->sessions) && dbx_list_empty(&ac->gw->sockets)))
        return;
    ac->asked = true;
    dbx_pg_query(gw_store_pg(ac->gw->store), "access_epoch", NULL, 0, on_epoch, ac);
}

struct gw_access *gw_access_new(struct gw *gw)
{
    struct gw_access *ac = DBX_NEW(struct gw_access);
    ac->gw = gw;
    ac->epoch = -1;
    ac->timer = dbx_timer_new(gw->loop, on_timer, ac);
    dbx_timer_start(ac->timer, POLL_MS, POLL_MS);
    return ac;
}

struct gw_access *gw_access_free(struct gw_access *ac)
{
    if (!ac)
        return NULL;
    ac->timer = dbx_timer_free(ac->timer);
    free(ac);
    return NULL;
}

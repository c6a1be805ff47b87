/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a workspace that the caller may see, with all its files: his own, and private. */
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "gateway/result.h"
#include "gateway/workspaces.h"
#include "gateway/workspaces_int.h"

static size_t fill(struct gw_write *wr, struct dbx_pg_param params[static 16])
{
    struct dbx_jw *w = dbx_jw_new(&wr->kept);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "id", wr->made_text);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
    params[4] = DBX_PG_TEXT(wr->object_text);
    params[5] = DBX_PG_TEXT(wr->made_text);
    params[6] = DBX_PG_TEXT(wr->body.name);
    return 7;
}

static void done(struct gw_write *wr, const struct dbx_pg_result *res)
{
    (void)res;
    if (!gw_req_gone(wr->rq))
        gw_workspace_answer(wr->rq, &wr->made, 201);
}

static void again(struct gw_write *wr, const char *kept)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    const struct dbx_json *root =
        dbx_json_parse(kept, strlen(kept), NULL, &doc, NULL) == 0 ? dbx_json_root(doc) : NULL;
    const char *id = dbx_json_get_str(root, "id");
    if (!id || dbx_id_parse(id, &wr->made) < 0)
        gw_req_not_found(wr->rq);
    else
        done(wr, NULL);
}

void gw_workspaces_fork(struct gw_req *rq)
{
    static const struct gw_write_kind kind = {.body = GW_BODY_FORK,
                                              .lock = "user_lock",
                                              .lock_caller = true,
                                              .stmt = "ws_fork",
                                              .by_role = true,
                                              .fill = fill,
                                              .done = done,
                                              .again = again};
    gw_write_begin(rq, &kind);
}

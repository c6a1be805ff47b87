/* SPDX-License-Identifier: Apache-2.0 */
/* Every URL of the gateway, and the few handlers that are too small for a file of their own. */
#include "gateway/routes.h"

#include "common/base/metrics.h"
#include "common/ext/json.h"
#include "gateway/batch_decode.h"
#include "gateway/batches.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/oidc.h"
#include "gateway/page.h"
#include "gateway/people.h"
#include "gateway/server.h"
#include "gateway/socket.h"
#include "gateway/templates.h"
#include "gateway/workspaces.h"

#define SMALL_BODY 4096u
#define EXECUTION_BODY DBX_MAX_BODY
#define FILE_BODY DBX_MAX_BODY /* 1 MiB, escaped at worst */
#define UPLOAD_BODY GW_UPLOAD_BODY
#define RUN_BODY (1u << 20)
#define INPUT_BODY (1u << 20)
#define MOVE_BODY (16u << 10)

static void get_healthz(struct gw_req *rq)
{
    gw_req_reply(rq, 200, "text/plain", NULL, "ok\n", 3);
}

static void get_readyz(struct gw_req *rq)
{
    const char *why = NULL;
    bool ready = gw_server_ready(rq->gw, &why);
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kbool(w, "ready", ready);
    dbx_jw_kstr(w, "waits_for", why);
    dbx_jw_object_end(w);
    gw_answer_json(rq, ready ? 200 : 503, &buf, &w);
}

static void get_metrics(struct gw_req *rq)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_BODY);
    if (dbx_metrics_print(&buf) < 0)
        gw_req_fail_status(rq, 500, DBX_INTERNAL, NULL, "too many metrics", NULL);
    else
        gw_req_reply(rq, 200, "text/plain; version=0.0.4", NULL, buf.data, buf.len);
    dbx_buf_done(&buf);
}

static void get_version(struct gw_req *rq)
{
    static const char text[] = "{\"version\":\"" DBX_VERSION "\",\"api\":1}";
    gw_req_reply(rq, 200, "application/json", NULL, text, sizeof(text) - 1);
}

const struct gw_route gw_routes[] = {
    {"POST", "/api/executions", gw_executions_create, GW_AUTH_RUN, EXECUTION_BODY},
    {"GET", "/api/executions", gw_executions_list, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/executions/{}", gw_executions_get, GW_AUTH_KEY, SMALL_BODY},
    {"DELETE", "/api/executions/{}", gw_executions_cancel, GW_AUTH_RUN, SMALL_BODY},
    {"GET", "/api/executions/{}/output", gw_executions_output, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/processes", gw_processes_list, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/processes/{}", gw_processes_get, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/processes/{}/output", gw_processes_output, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/processes/{}/input", gw_processes_input, GW_AUTH_RUN, INPUT_BODY},
    {"POST", "/api/processes/{}/signal", gw_processes_signal, GW_AUTH_RUN, SMALL_BODY},
    {"POST", "/api/processes/{}/cancel", gw_processes_cancel, GW_AUTH_RUN, SMALL_BODY},
    {"GET", "/api/sandboxes/{}/status", gw_sandboxes_status, GW_AUTH_KEY, SMALL_BODY},
    {"DELETE", "/api/sandboxes/{}", gw_sandboxes_end, GW_AUTH_RUN, SMALL_BODY},
    {"POST", "/api/batches", gw_batches_create, GW_AUTH_RUN, GW_BATCH_BODY},
    {"GET", "/api/batches", gw_batches_list, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/batches/{}", gw_batches_get, GW_AUTH_KEY, SMALL_BODY},
    {"DELETE", "/api/batches/{}", gw_batches_cancel, GW_AUTH_RUN, SMALL_BODY},
    {"GET", "/api/batches/{}/results", gw_batches_results, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/batches/{}/webhook", gw_batches_hook_get, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/batches/{}/webhook", gw_batches_hook_again, GW_AUTH_RUN, SMALL_BODY},
    {"POST", "/api/workspaces", gw_workspaces_create, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/workspaces", gw_workspaces_list, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/workspaces/{}", gw_workspaces_get, GW_AUTH_KEY, SMALL_BODY},
    {"PUT", "/api/workspaces/{}", gw_workspaces_put, GW_AUTH_KEY, SMALL_BODY},
    {"DELETE", "/api/workspaces/{}", gw_workspaces_delete, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/workspaces/{}/files", gw_files_tree, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/workspaces/{}/files", gw_files_create, GW_AUTH_KEY, FILE_BODY},
    {"POST", "/api/workspaces/{}/run", gw_workspaces_run, GW_AUTH_RUN, RUN_BODY},
    {"POST", "/api/workspaces/{}/sandbox", gw_workspaces_sandbox, GW_AUTH_RUN, SMALL_BODY},
    {"POST", "/api/workspaces/{}/fork", gw_workspaces_fork, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/workspaces/{}/archive", gw_workspaces_archive, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/workspaces/{}/archive", gw_workspaces_import, GW_AUTH_KEY, UPLOAD_BODY},
    {"POST", "/api/workspaces/{}/upload", gw_workspaces_upload, GW_AUTH_KEY, UPLOAD_BODY},
    {"GET", "/api/files/{}/content", gw_files_content, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/workspaces/{}/socket", gw_socket_get, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/workspaces/{}/token", gw_socket_token, GW_AUTH_ANY, SMALL_BODY},
    {"GET", "/api/files/{}", gw_files_get, GW_AUTH_KEY, SMALL_BODY},
    {"PUT", "/api/files/{}", gw_files_put, GW_AUTH_KEY, FILE_BODY},
    {"DELETE", "/api/files/{}", gw_files_delete, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/files/{}/move", gw_files_move, GW_AUTH_KEY, MOVE_BODY},
    {"GET", "/api/workspaces/{}/members", gw_members_list, GW_AUTH_KEY, SMALL_BODY},
    {"PUT", "/api/workspaces/{}/members/{}", gw_members_put, GW_AUTH_KEY, SMALL_BODY},
    {"DELETE", "/api/workspaces/{}/members/{}", gw_members_delete, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/workspaces/{}/links", gw_links_list, GW_AUTH_KEY, SMALL_BODY},
    {"POST", "/api/workspaces/{}/links", gw_links_create, GW_AUTH_KEY, SMALL_BODY},
    {"DELETE", "/api/workspaces/{}/links/{}", gw_links_delete, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/s/{}", gw_links_use, GW_AUTH_OPTIONAL, SMALL_BODY},
    {"POST", "/s/{}", gw_links_use, GW_AUTH_OPTIONAL, SMALL_BODY},
    {"POST", "/api/auth/register", gw_auth_register, GW_AUTH_OPTIONAL, SMALL_BODY},
    {"POST", "/api/auth/login", gw_auth_login, GW_AUTH_NONE, SMALL_BODY},
    {"POST", "/api/auth/guest", gw_auth_guest, GW_AUTH_NONE, SMALL_BODY},
    {"POST", "/api/auth/recover", gw_auth_recover, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/api/auth/oidc/login", gw_oidc_login, GW_AUTH_OPTIONAL, SMALL_BODY},
    {"GET", "/api/auth/oidc/callback", gw_oidc_callback, GW_AUTH_NONE, SMALL_BODY},
    {"POST", "/api/auth/logout", gw_auth_logout, GW_AUTH_ANY, SMALL_BODY},
    {"GET", "/api/me", gw_me_get, GW_AUTH_ANY, SMALL_BODY},
    {"PUT", "/api/me", gw_me_put, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"GET", "/api/sessions", gw_sessions_list, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"DELETE", "/api/sessions/{}", gw_sessions_delete, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"POST", "/api/keys", gw_keys_create, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"GET", "/api/keys", gw_keys_list, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"GET", "/api/keys/{}", gw_keys_get, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"DELETE", "/api/keys/{}", gw_keys_delete, GW_AUTH_ACCOUNT, SMALL_BODY},
    {"GET", "/api/users", gw_users_list, GW_AUTH_ANY, SMALL_BODY},
    {"PUT", "/api/users/{}", gw_users_put, GW_AUTH_ANY, SMALL_BODY},
    {"POST", "/api/users/{}/recovery", gw_users_recovery, GW_AUTH_ANY, SMALL_BODY},
    {"GET", "/api/audit", gw_audit_list, GW_AUTH_ANY, SMALL_BODY},
    {"GET", "/api/templates", gw_templates_list, GW_AUTH_KEY, SMALL_BODY},
    {"GET", "/api/version", get_version, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/healthz", get_healthz, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/readyz", get_readyz, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/metrics", get_metrics, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/", gw_page_get, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/w/{}", gw_page_get, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/recover", gw_page_get, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/assets/{}", gw_page_asset, GW_AUTH_NONE, SMALL_BODY},
    {"GET", "/icon.svg", gw_page_asset, GW_AUTH_NONE, SMALL_BODY},
};
const size_t gw_routes_len = DBX_ARRAY_LEN(gw_routes);

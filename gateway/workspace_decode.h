/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of the workspaces' routes, decoded strictly: every error names its field. Pure. */
#pragma once

#include "common/base/buf.h"
#include "common/ext/json.h"

#define GW_MAX_CONTENT (1u << 20)          /* of a file of a workspace */
#define GW_MAX_FILE (16u << 20)            /* of one that was uploaded */
#define GW_MAX_WORKSPACE_FILES 1000        /* folders count */
#define GW_MAX_WORKSPACE_BYTES (32u << 20) /* of all files of a workspace */
#define GW_MAX_NAME 200
#define GW_MAX_PROCESS_MS (7 * 86400000ll) /* what a node believes */

enum gw_body_kind {
    GW_BODY_WORKSPACE,       /* POST: name, template, sharing_mode? */
    GW_BODY_WORKSPACE_PATCH, /* PUT: any of them */
    GW_BODY_FORK,            /* name? */
    GW_BODY_FILE,            /* POST: path, type?, content | content_base64 */
    GW_BODY_CONTENT,         /* PUT: content | content_base64 */
    GW_BODY_MOVE,            /* path */
    GW_BODY_RUN,             /* command, env?, cwd?, limits?, pty? */
    GW_BODY_SANDBOX,         /* size? */
    GW_BODY_INPUT,           /* data, eof? */
    GW_BODY_SIGNAL,          /* signal */
};

/* What a kind does not have is NULL or zero. */
struct gw_body {
    struct dbx_json_doc *doc; /* owned: the pointers lead into it */
    const char *name, *template, *sharing_mode;
    const char *path, *size;
    bool directory;
    const uint8_t *content; /* also the data of an input */
    size_t content_len;
    uint8_t *decoded; /* owned: content that came as base64 */
    const struct dbx_json *command, *env;
    const char *cwd;
    int64_t cpu_ms, wall_ms; /* 0: no limit */
    int64_t cols, rows;      /* of its terminal; 0: it has none */
    int signo;
    bool eof;
};

struct gw_body_rules {
    bool (*has_template)(const char *name, void *user);
    void *user;
};

int gw_body_decode(enum gw_body_kind kind, const void *body, size_t len,
                   const struct gw_body_rules *rules, struct gw_body *ret,
                   struct dbx_err *err) DBX_MUST_USE;
void gw_body_done(struct gw_body *b);

/* The value of If-Match: "" for "*" and for none, else the hex digits between the quotes of the tag
 * that a file may have, or "none". */
int gw_if_match(const char *header, char ret[static 65], struct dbx_err *err) DBX_MUST_USE;

/* What a process of a workspace carries, besides the body. */
struct gw_run {
    const struct gw_body *body;
    const char *template, *size;
    int64_t revision;
    uint64_t idle_ms, max_ms;
};
/* "The request of a process" of docs/protocols.md. */
void gw_run_write_request(struct dbx_jw *w, const struct gw_run *run);

/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of the routes of people, decoded strictly: every error names its field. Pure. */
#pragma once

#include "common/ext/json.h"
#include "gateway/credentials.h"

#define GW_MIN_PASSWORD 8
#define GW_MAX_PASSWORD 1024
#define GW_MAX_LABEL 200

enum gw_people_kind {
    GW_PEOPLE_REGISTER, /* email, password (long enough) */
    GW_PEOPLE_LOGIN,    /* email, password */
    GW_PEOPLE_PASSWORD, /* password, current_password? */
    GW_PEOPLE_RECOVER,  /* token, password */
    GW_PEOPLE_KEY,      /* label? (or name?), scopes?, expires_at? */
    GW_PEOPLE_MEMBER,   /* role */
    GW_PEOPLE_LINK,     /* role, expires_at? */
    GW_PEOPLE_USER,     /* role?, disabled?, max_workspaces?, max_running?, max_bytes? */
    GW_PEOPLE_KINDS,
};

/* What a kind does not have is NULL, zero or -1 (quotas). */
struct gw_people_body {
    struct dbx_json_doc *doc; /* owned: the pointers lead into it */
    char email[GW_EMAIL_TEXT];
    const char *password, *current_password, *token, *label, *role;
    uint32_t scopes; /* 0: not given */
    int64_t expires_us;
    int64_t max_workspaces, max_running, max_bytes;
    bool disabled, has_disabled;
};

/* now_us: what expires must lie behind it. */
int gw_people_decode(enum gw_people_kind kind, const void *body, size_t len, int64_t now_us,
                     struct gw_people_body *ret, struct dbx_err *err) DBX_MUST_USE;
void gw_people_body_done(struct gw_people_body *b);

/* RFC 3339 with seconds, a zone, and perhaps a fraction; years 1970 to 9999. -EINVAL. */
int gw_time_parse(const char *text, int64_t *ret_us) DBX_MUST_USE;

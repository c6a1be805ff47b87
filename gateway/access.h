/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller is to a workspace, a process, a sandbox, a file. The answer is given in one place,
 * the database's workspace_role and sandbox_role (schema/004_people.sql), with every statement that
 * reads or writes; here is what is made of it. Streams are open for long: while they are, their
 * roles are asked for again when something was taken away from somebody (access_epoch), and every
 * quarter of a minute because links, keys and sessions expire. */
#pragma once

#include "common/proto/token.h"
#include "gateway/request.h"

struct dbx_pg_result;
struct gw_access;
struct gw_session;

const char *gw_role_name(enum dbx_role role); /* "viewer"; NULL for none */
/* Puts the column "role" of the first row into rq->role; whether it is at least `need`. */
bool gw_role_at_least(struct gw_req *rq, const struct dbx_pg_result *res, enum dbx_role need);

/* What the caller came with, for a token's label: "k:ID" or "s:ID". */
void gw_credential_label(const struct gw_user *user, char out[static 65]);

struct gw_access *gw_access_new(struct gw *gw);
struct gw_access *gw_access_free(struct gw_access *ac);
/* A stream was opened with a token that may be as old as its role. */
void gw_access_check(struct gw_session *ss);

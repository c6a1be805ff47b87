/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Signature Version 4, as S3 wants it (the path is encoded once). Pure: the caller sends what
 * was signed, and only that. */
#pragma once

#include "common/base/buf.h"
#include "common/ext/crypto.h"

#define DBX_SIGV4_MAX_PAIRS 16
#define DBX_SIGV4_DATE 17 /* "20150830T123600Z" */
#define DBX_SIGV4_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct dbx_sigv4_pair {
    const char *name, *value;
};

struct dbx_sigv4_req {
    const char *access_key, *secret_key, *region, *service;
    const char *date; /* as DBX_SIGV4_DATE */
    const char *method;
    const char *path;                                  /* not encoded; begins with '/' */
    struct dbx_sigv4_pair query[DBX_SIGV4_MAX_PAIRS];  /* not encoded; any order */
    struct dbx_sigv4_pair header[DBX_SIGV4_MAX_PAIRS]; /* all that are signed; names lower-case */
    size_t nquery, nheaders;
    const char *payload_sha256; /* hex */
};

void dbx_sigv4_date(int64_t wall_us, char out[static DBX_SIGV4_DATE]);
/* RFC 3986's unreserved characters stand, all else becomes %XX; with keep_slash '/' stands too. */
int dbx_sigv4_encode(struct dbx_buf *out, const char *text, bool keep_slash);
/* The canonical request, and what is put behind "Authorization: ". -E2BIG: out is full, or too many
 * pairs. */
int dbx_sigv4_canonical(const struct dbx_sigv4_req *rq, struct dbx_buf *out) DBX_MUST_USE;
int dbx_sigv4_authorization(const struct dbx_sigv4_req *rq, struct dbx_buf *out) DBX_MUST_USE;

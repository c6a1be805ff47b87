/* SPDX-License-Identifier: Apache-2.0 */
/* One request on its way: what it asks for, and the steps until it is answered. Each step names the
 * next one; a step is taken at once when what it needs is here. */
#pragma once

#include "registry-cache/derive.h"
#include "registry-cache/fill.h"
#include "registry-cache/route.h"

enum rc_how { RC_HIT, RC_MISS, RC_STALE_HIT, RC_ERROR };

struct dbx_fetch;
struct rc_call;
typedef void rc_step(struct rc_call *c, struct rc_ref *ref);

struct rc_call {
    uint32_t magic;
    struct rc *rc;
    struct dbx_http_req *req;
    struct rc_route rt;
    bool admin; /* came by the admin side */
    bool gzip;  /* the client takes it */
    bool no_upstream;
    char base[320]; /* "http://host:port", what our URLs begin with */
    bool force;     /* sources are asked for anew, however fresh they are */
    enum rc_how how;
    const char *type; /* of the answer */

    rc_step *next;
    struct rc_wait wait;
    char *key, *path, *url; /* owned: of what is waited for */

    int64_t asked_s;          /* when upstream was last asked for the source */
    struct rc_digest expect;  /* of a download, between its steps */
    struct dbx_fetch *asking; /* ask.c */
    bool gone;                /* ask.c: the client is; the answer is not here */

    bool begun; /* the answer is being streamed */
    uint64_t sent;
};

struct rc_call *rc_call_new(struct rc *rc, struct dbx_http_req *req, const struct rc_route *rt,
                            bool admin);
/* Answers, and frees the call. Words are ours. */
void rc_call_fail(struct rc_call *c, int status, const char *fmt, ...) DBX_PRINTF(3, 4);
void rc_call_text(struct rc_call *c, int status, const char *type, const char *text, size_t len);
void rc_call_redirect(struct rc_call *c, const char *where);
void rc_call_end(struct rc_call *c); /* frees: it has been answered, or nobody is there any more */

/* A source, fresh enough. path below the upstream; accept or NULL. Takes key and path. */
void rc_call_source(struct rc_call *c, char *key, char *path, const char *accept, bool gzip,
                    rc_step *next);
/* A variant of it; then next. */
void rc_call_variant(struct rc_call *c, struct rc_ref *source, enum rc_form form, bool gzip,
                     rc_step *next);
/* Answers with what never changes, if it is in the store and can be read. Takes key. */
bool rc_call_kept(struct rc_call *c, char *key);
/* The same, or while it comes. Takes key, path and url (one of these two is NULL). */
void rc_call_fixed(struct rc_call *c, char *key, char *path, char *url,
                   const struct rc_digest *expect);
/* Answers with the bytes of the ref. */
void rc_call_serve(struct rc_call *c, struct rc_ref *ref);
/* Answers with a source in the encoding the client takes. */
void rc_call_serve_source(struct rc_call *c, struct rc_ref *source);
/* What was looked for is not in the source; the upstream's may know it by now. True when the call
 * begins anew, with sources that are asked for (once, and not when they just were). */
bool rc_call_retry(struct rc_call *c);
/* The bytes of a small ref, such as links. */
int rc_call_read(struct rc_call *c, struct rc_ref *ref, struct dbx_buf *ret);

/* serve.c: the answer's head. immutable: what stands under this address never changes. */
struct rc_answer {
    const char *type;
    const uint8_t *digest; /* ETag; NULL: none */
    uint64_t size;
    bool gzip, vary, immutable;
    uint32_t max_age_s;
    enum rc_how how;
};
/* Sends size bytes of fd, a range of them, or 304. The request is gone. */
void rc_serve_file(struct dbx_http_req *req, const struct rc_answer *a, int fd);
void rc_serve_begin(struct dbx_http_req *req, const struct rc_answer *a, int64_t total);

/* The ecosystems. */
void rc_call_go(struct rc_call *c);
void rc_npm_call(struct rc_call *c);
void rc_pypi_call(struct rc_call *c);
void rc_go_call(struct rc_call *c);
void rc_crates_call(struct rc_call *c);

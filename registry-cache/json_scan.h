/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as it streams by: checked, passed on byte for byte, and some of its strings replaced. A
 * packument of 10 MB never stands in memory; what is kept is the path to where we are, and one
 * value that somebody asked for. */
#pragma once

#include "common/base/buf.h"

#define RC_JSON_DEPTH 128   /* deeper: -EBADMSG */
#define RC_JSON_KEYS 6      /* how deep keys are remembered and values may be asked for */
#define RC_JSON_KEY 512     /* longer keys match nothing */
#define RC_JSON_VALUE 16384 /* a longer value that is asked for: -EBADMSG */

struct rc_json_scan;

struct rc_json_handlers {
    /* A scalar begins at the path (rc_json_depth, rc_json_key). Whether on_value wants it. */
    bool (*wants)(struct rc_json_scan *s, void *user);
    /* It is here: a string decoded (NUL-terminated, no NUL inside), anything else as written. 0: it
     * goes through as it was; 1: what was appended to out stands in its place; or -errno. */
    int (*on_value)(struct rc_json_scan *s, bool is_string, const char *text, size_t len,
                    struct dbx_buf *out, void *user);
    /* Before '{' or '[' and behind its end; the path is that of the container. 0 or -errno. May be
     * NULL. */
    int (*on_open)(struct rc_json_scan *s, struct dbx_buf *out, void *user);
    int (*on_close)(struct rc_json_scan *s, struct dbx_buf *out, void *user);
};

struct rc_json_scan *rc_json_new(const struct rc_json_handlers *h, void *user);
struct rc_json_scan *rc_json_free(struct rc_json_scan *s);
/* -EBADMSG: not JSON, or beyond the bounds above; else the first failure of a handler or of out. */
int rc_json_feed(struct rc_json_scan *s, const void *data, size_t len,
                 struct dbx_buf *out) DBX_MUST_USE;
/* Whether the document is complete. */
bool rc_json_done(struct rc_json_scan *s);
void rc_json_reset(struct rc_json_scan *s); /* another document begins */

/* How many containers we are in; their keys from the outside ("" in an array). NULL: not
 * remembered. */
size_t rc_json_depth(const struct rc_json_scan *s);
const char *rc_json_key(const struct rc_json_scan *s, size_t i);
/* Whether the path is exactly these keys; NULL stands for any. */
bool rc_json_at(const struct rc_json_scan *s, size_t n, const char *const *keys);
void rc_json_mute(struct rc_json_scan *s, bool mute); /* while muted nothing is passed on */

/* Appends text as a JSON string, with its quotes. */
int rc_json_quote(struct dbx_buf *out, const char *text);

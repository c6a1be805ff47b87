/* SPDX-License-Identifier: Apache-2.0 */
/* Where packages come from, and which may come at all. Both are files of the operator: "word value"
 * a line, # comments. */
#pragma once

#include "common/base/err.h"
#include "registry-cache/route.h"
#include "registry-cache/url.h"

#include <stdio.h>

struct sockaddr;

struct rc_upstream {
    struct rc_url url;      /* without credentials; the path does not end with '/' */
    char *auth;             /* owned: "Authorization: ..."; NULL: none. Never shown, never logged */
    uint32_t failures;      /* in a row */
    uint64_t down_until_ms; /* monotonic: it is not asked before */
};

#define RC_MAX_UPSTREAMS 4
#define RC_MAX_TRUSTED 16
struct rc_upstreams {
    char *trusted[RC_MAX_TRUSTED]; /* hosts that may be at any address */
    size_t ntrusted;
    struct rc_upstream of[RC_ECOS][RC_MAX_UPSTREAMS];
    size_t n[RC_ECOS];
};

/* Lines: "npm URL", "pypi URL", "go URL URL ...", "crates [sparse+]URL", "npm-token TOKEN", and
 * "trust HOST": metadata and redirects may point there though its address is not public. A missing
 * file is an empty one. */
int rc_upstreams_load(const char *path, struct rc_upstreams *ret, struct dbx_err *err) DBX_MUST_USE;
int rc_upstreams_parse(const char *text, struct rc_upstreams *ret,
                       struct dbx_err *err) DBX_MUST_USE;
bool rc_upstreams_trust(const struct rc_upstreams *ups, const char *host);
void rc_upstreams_done(struct rc_upstreams *ups);

/* --- rules --- */

enum rc_verdict { RC_ALLOWED, RC_DENIED, RC_PRIVATE };
struct rc_rules;
/* Lines: "allow npm:NAME", "deny pypi:NAME", "private npm:@scope/..." with * for anything. Denied
 * goes first; where an ecosystem has an allow line, nothing else of it is allowed; what is private
 * is never asked for upstream. */
int rc_rules_load(const char *path, struct rc_rules **ret, struct dbx_err *err) DBX_MUST_USE;
int rc_rules_parse(const char *text, struct rc_rules **ret, struct dbx_err *err) DBX_MUST_USE;
struct rc_rules *rc_rules_free(struct rc_rules *rules);
enum rc_verdict rc_rules_judge(const struct rc_rules *rules, enum rc_eco eco, const char *name);

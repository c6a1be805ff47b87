/* SPDX-License-Identifier: Apache-2.0 */
/* Where the files of a package are and what they must be: taken out of its metadata once, so that a
 * file that is asked for can be found and verified. One line a file:
 * name TAB url TAB algorithm:hex or - TAB metadata (- none, + unhashed, or sha256:hex) LF */
#pragma once

#include "common/base/buf.h"
#include "common/ext/crypto.h"

struct rc_digest {
    bool known;
    enum dbx_hash_kind kind;
    uint8_t bytes[DBX_HASH_MAX];
};

struct rc_link {
    char *url; /* owned; "" when the caller makes it himself */
    struct rc_digest digest;
    bool has_metadata;
    struct rc_digest metadata;
};

/* name, url: without control characters, else the line is left out. */
int rc_links_put(struct dbx_buf *out, const char *name, const char *url,
                 const struct rc_digest *digest, const char *metadata);
/* -ENOENT when no line is of that name. */
int rc_links_find(const void *data, size_t len, const char *name, struct rc_link *ret) DBX_MUST_USE;
void rc_link_done(struct rc_link *link);

/* "sha256", 64 hex digits; false for what we do not know. */
bool rc_digest_hex(const char *algorithm, const char *hex, struct rc_digest *ret);
/* Subresource integrity ("sha512-base64 ..."): the strongest that we know. */
bool rc_digest_sri(const char *sri, struct rc_digest *ret);

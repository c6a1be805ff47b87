/* SPDX-License-Identifier: Apache-2.0 */
/* URLs that upstreams name: in configuration, in metadata, in redirects. http and https only. */
#pragma once

#include "common/base/buf.h"

#define RC_MAX_URL 4096

struct rc_url {
    bool https;
    uint16_t port;
    char host[256];        /* lower case; an IPv6 address with its brackets */
    char path[RC_MAX_URL]; /* begins with '/', with the query, without the fragment */
    char userinfo[512];    /* as written, "" without */
};

/* -EINVAL unless it is an absolute http or https URL of visible ASCII. */
int rc_url_parse(const char *text, struct rc_url *ret) DBX_MUST_USE;
/* RFC 3986 5.2: ref as it stands in a document whose address is base. User names in ref are
 * refused. Dot segments are gone from the result. */
int rc_url_resolve(const struct rc_url *base, const char *ref, struct rc_url *ret) DBX_MUST_USE;
/* Without userinfo. The caller frees. */
char *rc_url_text(const struct rc_url *url);
bool rc_url_same_origin(const struct rc_url *a, const struct rc_url *b);
/* The last segment of the path, decoded; -EINVAL when it is empty, a dot segment, or holds what a
 * file name may not: slashes, control characters, anything but ASCII. */
int rc_url_basename(const struct rc_url *url, char *out, size_t size) DBX_MUST_USE;

/* Percent-decodes one path segment: -EINVAL for malformed escapes, and for anything but visible
 * ASCII without '/' and '\\' in the result. */
int rc_segment_decode(const char *s, size_t len, char *out, size_t size) DBX_MUST_USE;
/* Appends s with everything escaped that is not unreserved or a sub-delimiter of a segment. */
int rc_segment_encode(struct dbx_buf *out, const char *s);

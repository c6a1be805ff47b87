/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an answer, conditions and ranges (RFC 9110, 13 and 14). */
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "registry-cache/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define SMALL (16u << 10) /* read and sent in one go: cheaper than a file of its own */

static const char *const how_words[] = {"hit", "miss", "stale", "error"};

struct head {
    struct dbx_header list[10];
    size_t n;
    char etag[40], age[64], range[80];
};

static void add(struct head *h, const char *name, const char *value)
{
    h->list[h->n++] = (struct dbx_header){name, value};
    h->list[h->n] = (struct dbx_header){NULL, NULL};
}

static void put_head(struct head *h, const struct rc_answer *a)
{
    h->n = 0;
    if (a->digest) {
        char hex[2 * RC_DIGEST + 1];
        dbx_hex_encode(a->digest, RC_DIGEST, hex);
        (void)snprintf(h->etag, sizeof(h->etag), "\"%.32s\"", hex);
        add(h, "ETag", h->etag);
    }
    if (a->immutable)
        (void)snprintf(h->age, sizeof(h->age), "public, max-age=31536000, immutable");
    else
        (void)snprintf(h->age, sizeof(h->age), "public, max-age=%u", a->max_age_s);
    add(h, "Cache-Control", h->age);
    if (a->gzip)
        add(h, "Content-Encoding", "gzip");
    if (a->vary)
        add(h, "Vary", "Accept, Accept-Encoding");
    if (a->immutable)
        add(h, "Accept-Ranges", "bytes");
    add(h, "X-Cache", how_words[a->how]);
}

/* Whether one of the listed tags is ours; weakness does not matter, bytes are bytes. */
static bool etag_listed(const char *list, const char *etag)
{
    size_t len = strlen(etag);

    if (strcmp(list, "*") == 0)
        return true;
    for (const char *p = list; (p = strchr(p, '"')); p++) {
        if (strncmp(p, etag, len) == 0)
            return true;
        p = strchr(p + 1, '"');
        if (!p)
            return false;
    }
    return false;
}

enum range { WHOLE, PART, OUTSIDE };

/* One range of bytes; several, or what is malformed, is the whole. */
static enum range parse_range(struct dbx_http_req *req, const struct rc_answer *a, const char *etag,
                              uint64_t *ret_from, uint64_t *ret_len)
{
    const char *range = dbx_http_header(req, "range"), *only = dbx_http_header(req, "if-range");
    uint64_t from = 0, to = a->size ? a->size - 1 : 0;

    if (!range || strncasecmp(range, "bytes=", 6) != 0 || a->gzip ||
        strcmp(dbx_http_method(req), "GET") != 0 || (only && strcmp(only, etag) != 0))
        return WHOLE;
    range += 6;
    const char *dash = strchr(range, '-');
    if (!dash || strchr(range, ','))
        return WHOLE;
    size_t before = (size_t)(dash - range), after = strlen(dash + 1);
    if (before && dbx_parse_u64(range, before, 0, INT64_MAX, &from) < 0)
        return WHOLE;
    uint64_t last = to;
    if (after && dbx_parse_u64(dash + 1, after, 0, INT64_MAX, &last) < 0)
        return WHOLE;
    if (!before && !after)
        return WHOLE;
    if (!before) { /* the last so many */
        if (!last || !a->size)
            return OUTSIDE;
        from = last < a->size ? a->size - last : 0;
    } else if (after) {
        if (last < from)
            return WHOLE;
        to = last < to ? last : to;
    }
    if (from >= a->size)
        return OUTSIDE;
    *ret_from = from;
    *ret_len = to - from + 1;
    return PART;
}

static void send_bytes(struct dbx_http_req *req, int status, const char *type, const struct head *h,
                       int fd, uint64_t from, uint64_t len)
{
    uint8_t small[SMALL];

    if (len <= SMALL && pread(fd, small, len, (off_t)from) == (ssize_t)len)
        dbx_http_reply(req, status, type, h->list, small, len);
    else
        dbx_http_reply_file(req, status, type, h->list, fd, from, len);
}

void rc_serve_file(struct dbx_http_req *req, const struct rc_answer *a, int fd)
{
    const char *match = dbx_http_header(req, "if-none-match");
    uint64_t from = 0, len = a->size;
    struct head h;

    put_head(&h, a);
    if (match && a->digest && etag_listed(match, h.etag)) {
        dbx_http_reply(req, 304, NULL, h.list, NULL, 0);
        return;
    }
    enum range range = parse_range(req, a, h.etag, &from, &len);
    if (range == OUTSIDE) {
        (void)snprintf(h.range, sizeof(h.range), "bytes */%" PRIu64, a->size);
        add(&h, "Content-Range", h.range);
        dbx_http_reply(req, 416, NULL, h.list, NULL, 0);
        return;
    }
    if (range == PART) {
        (void)snprintf(h.range, sizeof(h.range), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, from,
                       from + len - 1, a->size);
        add(&h, "Content-Range", h.range);
    }
    send_bytes(req, range == PART ? 206 : 200, a->type, &h, fd, from, len);
}

void rc_serve_begin(struct dbx_http_req *req, const struct rc_answer *a, int64_t total)
{
    struct head h;

    put_head(&h, a);
    dbx_http_begin(req, 200, a->type, h.list, total);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/sigv4.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/str.h"

#define MAX_CANONICAL (64u << 10)
#define DAY 8 /* of a date: its first characters */
#define HEX_LEN (2 * DBX_SHA256_LEN + 1)

void dbx_sigv4_date(int64_t wall_us, char out[static DBX_SIGV4_DATE])
{
    struct tm tm = {0};
    time_t t = (time_t)(wall_us / 1000000);
    (void)gmtime_r(&t, &tm);
    (void)strftime(out, DBX_SIGV4_DATE, "%Y%m%dT%H%M%SZ", &tm);
}

static bool unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

int dbx_sigv4_encode(struct dbx_buf *out, const char *text, bool keep_slash)
{
    int r = 0;
    for (const char *p = text; r == 0 && *p; p++) {
        unsigned char c = (unsigned char)*p;
        r = unreserved(c) || (keep_slash && c == '/') ? dbx_buf_append(out, p, 1)
                                                      : dbx_buf_printf(out, "%%%02X", c);
    }
    return r;
}

/* --- the canonical request --- */

struct encoded {
    char *name, *value; /* owned */
};

static int by_name(const void *a, const void *b)
{
    const struct encoded *x = a, *y = b;
    int r = strcmp(x->name, y->name);
    return r ? r : strcmp(x->value, y->value);
}

static char *encode(const char *text)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, MAX_CANONICAL);
    if (dbx_sigv4_encode(&buf, text ? text : "", false) < 0)
        dbx_buf_clear(&buf);
    (void)dbx_buf_str(&buf, "");
    return buf.data ? (char *)dbx_buf_take(&buf) : dbx_strdup("");
}

static int put_query(const struct dbx_sigv4_req *rq, struct dbx_buf *out)
{
    struct encoded all[DBX_SIGV4_MAX_PAIRS];
    int r = 0;
    for (size_t i = 0; i < rq->nquery; i++)
        all[i] = (struct encoded){encode(rq->query[i].name), encode(rq->query[i].value)};
    qsort(all, rq->nquery, sizeof(*all), by_name);
    for (size_t i = 0; i < rq->nquery; i++) {
        r |= dbx_buf_printf(out, "%s%s=%s", i ? "&" : "", all[i].name, all[i].value);
        free(all[i].name);
        free(all[i].value);
    }
    return r;
}

/* The value without the blanks around it, and with one where several follow each other. */
static int put_trimmed(struct dbx_buf *out, const char *value)
{
    int r = 0;
    while (*value == ' ')
        value++;
    for (; r == 0 && *value; value++)
        if (*value != ' ' || (value[1] && value[1] != ' '))
            r = dbx_buf_append(out, value, 1);
    return r;
}

static int by_header(const void *a, const void *b)
{
    const struct dbx_sigv4_pair *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int put_signed(const struct dbx_sigv4_pair *sorted, size_t n, struct dbx_buf *out)
{
    int r = 0;
    for (size_t i = 0; i < n; i++)
        r |= dbx_buf_printf(out, "%s%s", i ? ";" : "", sorted[i].name);
    return r;
}

static void sort_headers(const struct dbx_sigv4_req *rq, struct dbx_sigv4_pair *sorted)
{
    memcpy(sorted, rq->header, rq->nheaders * sizeof(*sorted));
    qsort(sorted, rq->nheaders, sizeof(*sorted), by_header);
}

int dbx_sigv4_canonical(const struct dbx_sigv4_req *rq, struct dbx_buf *out)
{
    struct dbx_sigv4_pair sorted[DBX_SIGV4_MAX_PAIRS];
    if (rq->nquery > DBX_SIGV4_MAX_PAIRS || rq->nheaders > DBX_SIGV4_MAX_PAIRS)
        return -E2BIG;
    sort_headers(rq, sorted);
    int r = dbx_buf_printf(out, "%s\n", rq->method);
    r |= dbx_sigv4_encode(out, rq->path, true);
    r |= dbx_buf_str(out, "\n");
    r |= put_query(rq, out);
    r |= dbx_buf_str(out, "\n");
    for (size_t i = 0; i < rq->nheaders; i++) {
        r |= dbx_buf_printf(out, "%s:", sorted[i].name);
        r |= put_trimmed(out, sorted[i].value);
        r |= dbx_buf_str(out, "\n");
    }
    r |= dbx_buf_str(out, "\n");
    r |= put_signed(sorted, rq->nheaders, out);
    r |= dbx_buf_printf(out, "\n%s", rq->payload_sha256);
    return r ? -E2BIG : 0;
}

/* --- the signature --- */

static void sign(const struct dbx_sigv4_req *rq, const char *scope, const struct dbx_buf *canonical,
                 char ret[static HEX_LEN])
{
    uint8_t key[DBX_SHA256_LEN];
    char hash[HEX_LEN];
    dbx_sha256(canonical->data, canonical->len, key);
    dbx_hex_encode(key, sizeof(key), hash);
    DBX_CLEANUP(dbx_freep)
    char *text = dbx_asprintf("AWS4-HMAC-SHA256\n%s\n%s\n%s", rq->date, scope, hash);
    DBX_CLEANUP(dbx_freep) char *secret = dbx_asprintf("AWS4%s", rq->secret_key);
    dbx_hmac_sha256(secret, strlen(secret), rq->date, DAY, key);
    dbx_hmac_sha256(key, sizeof(key), rq->region, strlen(rq->region), key);
    dbx_hmac_sha256(key, sizeof(key), rq->service, strlen(rq->service), key);
    dbx_hmac_sha256(key, sizeof(key), "aws4_request", strlen("aws4_request"), key);
    dbx_hmac_sha256(key, sizeof(key), text, strlen(text), key);
    dbx_hex_encode(key, sizeof(key), ret);
    explicit_bzero(secret, strlen(secret));
    explicit_bzero(key, sizeof(key));
}

int dbx_sigv4_authorization(const struct dbx_sigv4_req *rq, struct dbx_buf *out)
{
    struct dbx_sigv4_pair sorted[DBX_SIGV4_MAX_PAIRS];
    struct dbx_buf canonical;
    char signature[HEX_LEN];
    dbx_buf_init(&canonical, MAX_CANONICAL);
    int r = dbx_sigv4_canonical(rq, &canonical);
    if (r == 0) {
        DBX_CLEANUP(dbx_freep)
        char *scope =
            dbx_asprintf("%.*s/%s/%s/aws4_request", DAY, rq->date, rq->region, rq->service);
        sign(rq, scope, &canonical, signature);
        sort_headers(rq, sorted);
        r = dbx_buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=", rq->access_key,
                           scope);
        r |= put_signed(sorted, rq->nheaders, out);
        r |= dbx_buf_printf(out, ", Signature=%s", signature);
    }
    dbx_buf_done(&canonical);
    return r ? -E2BIG : 0;
}

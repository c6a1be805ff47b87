/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/blob_int.h"

static bool only(const char *s, size_t len, const char *more)
{
    for (size_t i = 0; i < len; i++) {
        bool plain = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');
        if (!plain && (!s[i] || !strchr(more, s[i])))
            return false;
    }
    return len > 0;
}

static bool copy(char *dst, size_t size, const char *from, size_t len)
{
    if (len >= size)
        return false;
    memcpy(dst, from, len);
    dst[len] = '\0';
    return true;
}

/* The standard ports are left out of Host, as clients do. */
static bool read_host(const char *host, size_t len, bool tls, struct dbx_blob_s3_url *u)
{
    const char *colon = memchr(host, ':', len);
    size_t name = colon ? (size_t)(colon - host) : len;
    uint64_t port = 0;
    if (!only(host, name, ".-") || !copy(u->host, sizeof(u->host) - 16, host, name))
        return false;
    if (colon && dbx_parse_u64(colon + 1, len - name - 1, 1, 65535, &port) < 0)
        return false;
    if (port && port != (tls ? 443 : 80))
        snprintf(u->host + name, sizeof(u->host) - name, ":%u", (unsigned)port);
    snprintf(u->origin, sizeof(u->origin), "%s%s", tls ? "https://" : "http://", u->host);
    return true;
}

int dbx_blob__s3_url_parse(const char *url, struct dbx_blob_s3_url *ret, struct dbx_err *err)
{
    static const char words[] = "s3: wants http[s]://HOST[:PORT]/BUCKET[/PREFIX][?region=REGION]";
    bool tls = dbx_starts_with(url, "https://");
    struct dbx_blob_s3_url u = {.region = "us-east-1"};
    if (!tls && !dbx_starts_with(url, "http://"))
        return dbx_err_field(err, "blobs", "%s", words);
    const char *host = url + (tls ? 8 : 7);
    size_t host_len = strcspn(host, "/?");
    const char *bucket = host + host_len + (host[host_len] == '/');
    size_t bucket_len = strcspn(bucket, "/?");
    const char *prefix = bucket + bucket_len + (bucket[bucket_len] == '/');
    size_t prefix_len = strcspn(prefix, "?");
    const char *query = prefix + prefix_len;
    if (!read_host(host, host_len, tls, &u) || !only(bucket, bucket_len, ".-") || bucket_len < 3 ||
        !copy(u.bucket, sizeof(u.bucket), bucket, bucket_len))
        return dbx_err_field(err, "blobs", "%s", words);
    while (prefix_len > 0 && prefix[prefix_len - 1] == '/')
        prefix_len--;
    if (!copy(u.prefix, sizeof(u.prefix) - 1, prefix, prefix_len) ||
        (prefix_len && !dbx_blob_name_ok(u.prefix)))
        return dbx_err_field(err, "blobs", "%s", words);
    if (prefix_len)
        memcpy(u.prefix + prefix_len, "/", 2);
    if (*query &&
        (!dbx_starts_with(query, "?region=") || !only(query + 8, strlen(query + 8), "-") ||
         !copy(u.region, sizeof(u.region), query + 8, strlen(query + 8))))
        return dbx_err_field(err, "blobs", "%s", words);
    *ret = u;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/links.h"
#include "common/base/str.h"
#include "registry-cache/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum dbx_hash_kind kind;
} kinds[] = {{"sha512", DBX_HASH_SHA512}, /* the strongest first */
             {"sha384", DBX_HASH_SHA384},
             {"sha256", DBX_HASH_SHA256},
             {"sha1", DBX_HASH_SHA1}};

bool rc_digest_hex(const char *algorithm, const char *hex, struct rc_digest *ret)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, algorithm) != 0)
            continue;
        ret->kind = kinds[i].kind;
        ret->known = strlen(hex) == 2 * dbx_hash_len(ret->kind) &&
                     dbx_hex_decode(hex, strlen(hex), ret->bytes) == 0;
        return ret->known;
    }
    return false;
}

static bool one_sri(const char *word, size_t len, size_t kind, struct rc_digest *ret)
{
    size_t name = strlen(kinds[kind].name), got;
    uint8_t bytes[128];

    if (len <= name + 1 || memcmp(word, kinds[kind].name, name) != 0 || word[name] != '-')
        return false;
    const char *value = word + name + 1;
    size_t n = len - name - 1;
    const char *options = memchr(value, '?', n);
    n = options ? (size_t)(options - value) : n;
    if (n > 120 || dbx_base64_decode(value, n, bytes, &got, false) < 0 ||
        got != dbx_hash_len(kinds[kind].kind))
        return false;
    ret->kind = kinds[kind].kind;
    ret->known = true;
    memcpy(ret->bytes, bytes, got);
    return true;
}

bool rc_digest_sri(const char *sri, struct rc_digest *ret)
{
    for (size_t k = 0; k < DBX_ARRAY_LEN(kinds); k++)
        for (const char *p = sri; *p;) {
            size_t len = strcspn(p, " \t\n");
            if (one_sri(p, len, k, ret))
                return true;
            p += len;
            p += strspn(p, " \t\n");
        }
    return false;
}

static bool is_clean(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

int rc_links_put(struct dbx_buf *out, const char *name, const char *url,
                 const struct rc_digest *digest, const char *metadata)
{
    char hex[2 * DBX_HASH_MAX + 1] = "";
    const char *algorithm = "";

    if (!*name || !is_clean(name) || !is_clean(url) || !is_clean(metadata))
        return 0;
    if (digest->known) {
        dbx_hex_encode(digest->bytes, dbx_hash_len(digest->kind), hex);
        for (size_t i = 0; i < DBX_ARRAY_LEN(kinds); i++)
            if (kinds[i].kind == digest->kind)
                algorithm = kinds[i].name;
    }
    return dbx_buf_printf(out, "%s\t%s\t%s%s%s\t%s\n", name, url, algorithm,
                          digest->known ? ":" : "-", hex, metadata);
}

static void parse_digest(char *text, struct rc_digest *ret)
{
    char *colon = strchr(text, ':');

    ret->known = false;
    if (!colon)
        return;
    *colon = '\0';
    (void)rc_digest_hex(text, colon + 1, ret);
}

static int parse_line(const char *line, size_t len, struct rc_link *ret)
{
    DBX_CLEANUP(dbx_freep) char *text = dbx_strndup(line, len);
    char *field[3], *p = text;

    for (size_t i = 0; i < 3; i++) {
        field[i] = p;
        p = strchr(p, '\t');
        if (!p && i < 2)
            return -EBADMSG;
        if (p)
            *p++ = '\0';
    }
    ret->url = dbx_strdup(field[0]);
    parse_digest(field[1], &ret->digest);
    ret->has_metadata = strcmp(field[2], "-") != 0;
    parse_digest(field[2], &ret->metadata);
    return 0;
}

int rc_links_find(const void *data, size_t len, const char *name, struct rc_link *ret)
{
    const char *p = data, *end = p ? p + len : p;
    size_t want = strlen(name);

    memset(ret, 0, sizeof(*ret));
    while (p < end) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol)
            break;
        if ((size_t)(eol - p) > want && p[want] == '\t' && memcmp(p, name, want) == 0)
            return parse_line(p + want + 1, (size_t)(eol - p) - want - 1, ret);
        p = eol + 1;
    }
    return -ENOENT;
}

void rc_link_done(struct rc_link *link)
{
    free(link->url);
    link->url = NULL;
}

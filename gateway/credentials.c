/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/rand.h"
#include "common/base/str.h"

static const struct {
    const char *name;
    enum gw_scope scope;
} scope_names[] = {{"read", GW_SCOPE_READ},
                   {"write", GW_SCOPE_WRITE},
                   {"run", GW_SCOPE_RUN},
                   {"account", GW_SCOPE_ACCOUNT},
                   {"admin", GW_SCOPE_ADMIN}};

static uint32_t scope_of(const char *name, size_t len)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(scope_names); i++)
        if (strlen(scope_names[i].name) == len && memcmp(scope_names[i].name, name, len) == 0)
            return scope_names[i].scope;
    return 0;
}

uint32_t gw_scope_named(const char *name)
{
    return scope_of(name, strlen(name));
}

int gw_scopes_parse(const char *text, uint32_t *ret)
{
    uint32_t scopes = 0;
    while (*text) {
        size_t len = strcspn(text, " ");
        uint32_t one = scope_of(text, len);
        if (!one || scopes & one)
            return -EINVAL;
        scopes |= one;
        text += len;
        if (*text && !*++text)
            return -EINVAL; /* a space behind the last */
    }
    *ret = scopes;
    return 0;
}

void gw_scopes_text(uint32_t scopes, char out[static GW_SCOPES_TEXT])
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < DBX_ARRAY_LEN(scope_names); i++)
        if (scopes & scope_names[i].scope)
            used += (size_t)snprintf(out + used, GW_SCOPES_TEXT - used, "%s%s", used ? " " : "",
                                     scope_names[i].name);
}

/* --- e-mail --- */

static bool email_char(unsigned char c)
{
    return c > ' ' && c != 0x7f && !strchr("\"(),:;<>[\\]/?#%|", c);
}

int gw_email_normalize(const char *text, char out[static GW_EMAIL_TEXT])
{
    size_t len = strlen(text), at = strcspn(text, "@");
    if (len >= GW_EMAIL_TEXT || at == 0 || at > 64 || at + 1 >= len || strchr(text + at + 1, '@') ||
        !dbx_utf8_valid(text, len) || text[at + 1] == '.' || text[len - 1] == '.')
        return -EINVAL;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && !email_char((unsigned char)text[i]))
            return -EINVAL;
        out[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
    }
    return 0;
}

int gw_email_of_path(const char *text, char out[static GW_EMAIL_TEXT])
{
    char plain[GW_EMAIL_TEXT];
    size_t n = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '%') {
            if (!text[1] || !text[2] || dbx_hex_decode(text + 1, 2, &c) < 0 || c == '\0')
                return -EINVAL;
            text += 2;
        }
        if (n + 1 >= sizeof(plain))
            return -EINVAL;
        plain[n++] = (char)c;
    }
    plain[n] = '\0';
    return gw_email_normalize(plain, out);
}

/* --- secrets --- */

void gw_secret_new(char out[static GW_SECRET_TEXT])
{
    uint8_t bytes[32];
    dbx_random(bytes, sizeof(bytes));
    (void)dbx_base64_encode(bytes, sizeof(bytes), out, /* url= */ true);
    explicit_bzero(bytes, sizeof(bytes));
}

void gw_secret_hash(const char *use, const char *secret, uint8_t out[static DBX_SHA256_LEN])
{
    struct dbx_sha256_ctx *ctx = dbx_sha256_new();
    dbx_sha256_update(ctx, use, strlen(use));
    dbx_sha256_update(ctx, secret, strlen(secret));
    dbx_sha256_peek(ctx, out);
    dbx_sha256_free(ctx);
}

void gw_csrf_token(const char *secret, char out[static GW_CSRF_TEXT])
{
    uint8_t hash[DBX_SHA256_LEN];
    gw_secret_hash("csrf:", secret, hash);
    dbx_hex_encode(hash, (GW_CSRF_TEXT - 1) / 2, out);
}

bool gw_csrf_matches(const char *secret, const char *given)
{
    char want[GW_CSRF_TEXT];
    gw_csrf_token(secret, want);
    return given && strlen(given) == GW_CSRF_TEXT - 1 &&
           dbx_equal_secret(want, given, GW_CSRF_TEXT - 1);
}

static bool is_secret(const char *text, size_t len)
{
    if (len != GW_SECRET_LEN)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
              (text[i] >= '0' && text[i] <= '9') || text[i] == '-' || text[i] == '_'))
            return false;
    return true;
}

bool gw_cookie_secret(const char *header, const char *name, char out[static GW_SECRET_TEXT])
{
    size_t name_len = strlen(name);
    while (header && *header) {
        header += strspn(header, "; ,");
        size_t len = strcspn(header, ";,");
        if (len > name_len && header[name_len] == '=' && memcmp(header, name, name_len) == 0) {
            const char *value = header + name_len + 1;
            size_t n = len - name_len - 1;
            while (n > 0 && value[n - 1] == ' ')
                n--;
            if (!is_secret(value, n))
                return false;
            memcpy(out, value, n);
            out[n] = '\0';
            return true;
        }
        header += len;
    }
    return false;
}

const char *gw_return_to(const char *given)
{
    size_t len = given ? strlen(given) : 0;
    if (len == 0 || len > 512 || given[0] != '/' || given[1] == '/' || given[1] == '\\')
        return "/";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)given[i] <= ' ' || (unsigned char)given[i] >= 0x7f || given[i] == '\\')
            return "/";
    return given;
}

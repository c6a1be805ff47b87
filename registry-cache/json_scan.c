/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/json_scan.h"
#include "common/base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum want { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA_OR_END, DONE };
enum lex { NONE, STRING, BARE };

struct rc_json_scan {
    const struct rc_json_handlers *h;
    void *user;
    enum want want;
    enum lex lex;
    int escape; /* in a string: 1 behind a backslash, 2..5 in its \u */
    bool is_key, collecting, muted;
    size_t depth;
    bool object[RC_JSON_DEPTH];
    char key[RC_JSON_KEYS][RC_JSON_KEY];
    struct dbx_buf raw; /* the key or the value that is collected, as written, without quotes */
    bool raw_over;      /* a key too long to be kept */
    char bare[8];       /* beginning of a number or a literal */
    size_t bare_len;
    const uint8_t *run; /* passed on up to here */
};

struct rc_json_scan *rc_json_new(const struct rc_json_handlers *h, void *user)
{
    struct rc_json_scan *s = DBX_NEW(struct rc_json_scan);

    s->h = h;
    s->user = user;
    dbx_buf_init(&s->raw, RC_JSON_VALUE);
    return s;
}

struct rc_json_scan *rc_json_free(struct rc_json_scan *s)
{
    if (s)
        dbx_buf_done(&s->raw);
    free(s);
    return NULL;
}

void rc_json_reset(struct rc_json_scan *s)
{
    s->want = VALUE;
    s->lex = NONE;
    s->depth = 0;
}

/* --- the path --- */

size_t rc_json_depth(const struct rc_json_scan *s)
{
    return s->depth;
}

const char *rc_json_key(const struct rc_json_scan *s, size_t i)
{
    return i < s->depth && i < RC_JSON_KEYS ? s->key[i] : NULL;
}

bool rc_json_at(const struct rc_json_scan *s, size_t n, const char *const *keys)
{
    if (s->depth != n || n > RC_JSON_KEYS)
        return false;
    for (size_t i = 0; i < n; i++)
        if (keys[i] && strcmp(keys[i], s->key[i]) != 0)
            return false;
    return true;
}

void rc_json_mute(struct rc_json_scan *s, bool mute)
{
    s->muted = mute;
}

/* --- strings --- */

static int hex4(const char *s, size_t left, uint32_t *ret)
{
    uint8_t b[2];

    if (left < 4 || dbx_hex_decode(s, 4, b) < 0)
        return -EBADMSG;
    *ret = (uint32_t)b[0] << 8 | b[1];
    return 0;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}

/* \uXXXX at s (behind the u); with its second half when it is one of a pair. */
static int unescape_u(const char *s, size_t left, char *out, size_t *ret_in, size_t *ret_out)
{
    uint32_t c, low;

    if (hex4(s, left, &c) < 0 || c == 0 || (c >= 0xdc00 && c < 0xe000))
        return -EBADMSG;
    *ret_in = 4;
    if (c >= 0xd800 && c < 0xdc00) {
        if (left < 10 || s[4] != '\\' || s[5] != 'u' || hex4(s + 6, left - 6, &low) < 0 ||
            low < 0xdc00 || low >= 0xe000)
            return -EBADMSG;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        *ret_in = 10;
    }
    *ret_out = put_utf8(out, c);
    return 0;
}

/* In place: what is decoded is never longer. The result is UTF-8 without NUL. */
static int unescape(char *s, size_t *len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t n = 0;

    for (size_t i = 0; i < *len; i++) {
        if (s[i] != '\\') {
            s[n++] = s[i];
            continue;
        }
        i++;
        if (s[i] == 'u') {
            size_t in, out;
            char c[4];
            if (unescape_u(s + i + 1, *len - i - 1, c, &in, &out) < 0)
                return -EBADMSG;
            memcpy(s + n, c, out);
            n += out;
            i += in;
        } else {
            s[n++] = to[strchr(from, s[i]) - from];
        }
    }
    s[n] = '\0';
    *len = n;
    return dbx_utf8_valid(s, n) ? 0 : -EBADMSG;
}

int rc_json_quote(struct dbx_buf *out, const char *text)
{
    int r = dbx_buf_append(out, "\"", 1);

    for (; *text && r == 0; text++) {
        uint8_t c = (uint8_t)*text;
        if (c == '"' || c == '\\')
            r = dbx_buf_printf(out, "\\%c", c);
        else if (c < 0x20)
            r = dbx_buf_printf(out, "\\u%04x", c);
        else
            r = dbx_buf_append(out, text, 1);
    }
    return r < 0 ? r : dbx_buf_append(out, "\"", 1);
}

/* --- passing on --- */

static int pass(struct rc_json_scan *s, const uint8_t *upto, struct dbx_buf *out)
{
    int r = s->muted || upto == s->run ? 0 : dbx_buf_append(out, s->run, (size_t)(upto - s->run));

    s->run = upto;
    return r;
}

static void after_value(struct rc_json_scan *s)
{
    s->want = s->depth ? COMMA_OR_END : DONE;
}

/* A value that was collected is complete; `end` is behind it. */
static int give_value(struct rc_json_scan *s, bool is_string, const uint8_t *end,
                      struct dbx_buf *out)
{
    DBX_CLEANUP(dbx_freep) char *text = dbx_strndup(dbx_buf_cstr(&s->raw), s->raw.len);
    size_t len = s->raw.len;

    s->collecting = false;
    if (is_string && unescape(text, &len) < 0)
        return -EBADMSG;
    int r = s->h->on_value(s, is_string, text, len, out, s->user);
    s->run = end;
    if (r != 0 || s->muted)
        return r < 0 ? r : 0;
    r = is_string ? dbx_buf_append(out, "\"", 1) : 0;
    if (r == 0)
        r = dbx_buf_append(out, s->raw.data, s->raw.len);
    return r < 0 || !is_string ? r : dbx_buf_append(out, "\"", 1);
}

static int string_ends(struct rc_json_scan *s, const uint8_t *end, struct dbx_buf *out)
{
    s->lex = NONE;
    if (!s->is_key) {
        int r = s->collecting ? give_value(s, true, end, out) : 0;
        after_value(s);
        return r;
    }
    s->want = COLON;
    if (s->depth > RC_JSON_KEYS)
        return 0;
    char *key = s->key[s->depth - 1];
    size_t len = s->raw.len;
    key[0] = '\0';
    if (!s->raw_over && len < RC_JSON_KEY) {
        memcpy(key, dbx_buf_cstr(&s->raw), len);
        if (unescape(key, &len) < 0)
            key[0] = '\0';
    }
    if (s->raw_over || len >= RC_JSON_KEY || !key[0])
        memcpy(key, "\xff", 2); /* is no key of anybody's */
    return 0;
}

/* Some bytes of a string; *at goes behind them, or behind the quote that ends it. */
static int in_string(struct rc_json_scan *s, const uint8_t **at, const uint8_t *end,
                     struct dbx_buf *out)
{
    const uint8_t *p = *at;
    bool keep = s->collecting || (s->is_key && s->depth <= RC_JSON_KEYS);
    bool closed = false;

    for (; p < end && !closed; p++) {
        if (*p < 0x20)
            return -EBADMSG;
        if (s->escape > 1) {
            uint8_t lower = *p | 0x20;
            if (!((*p >= '0' && *p <= '9') || (lower >= 'a' && lower <= 'f')))
                return -EBADMSG;
            s->escape = s->escape == 5 ? 0 : s->escape + 1;
        } else if (s->escape) {
            if (!strchr("\"\\/bfnrtu", *p))
                return -EBADMSG;
            s->escape = *p == 'u' ? 2 : 0;
        } else if (*p == '\\') {
            s->escape = 1;
        } else if (*p == '"') {
            closed = true;
        }
    }
    const uint8_t *from = *at;
    *at = p;
    if (keep && dbx_buf_append(&s->raw, from, (size_t)(p - from) - closed) < 0) {
        if (!s->is_key)
            return -EBADMSG;
        s->raw_over = true;
    }
    if (s->collecting)
        s->run = p;
    return closed ? string_ends(s, p, out) : 0;
}

static int string_begins(struct rc_json_scan *s, bool is_key, const uint8_t *p, struct dbx_buf *out)
{
    int r = 0;

    s->lex = STRING;
    s->escape = 0;
    s->is_key = is_key;
    s->raw_over = false;
    dbx_buf_clear(&s->raw);
    s->collecting = !is_key && s->depth <= RC_JSON_KEYS && s->h->wants(s, s->user);
    if (s->collecting) {
        r = pass(s, p, out);
        s->run = p + 1;
    }
    return r;
}

/* --- numbers and literals --- */

static bool bare_valid(const struct rc_json_scan *s)
{
    static const char *const words[] = {"true", "false", "null"};

    if ((s->bare[0] >= '0' && s->bare[0] <= '9') || s->bare[0] == '-')
        return true;
    for (size_t i = 0; i < DBX_ARRAY_LEN(words); i++)
        if (s->bare_len == strlen(words[i]) && memcmp(s->bare, words[i], s->bare_len) == 0)
            return true;
    return false;
}

static int bare_ends(struct rc_json_scan *s, const uint8_t *end, struct dbx_buf *out)
{
    int r = bare_valid(s) ? 0 : -EBADMSG;

    s->lex = NONE;
    if (r == 0 && s->collecting)
        r = give_value(s, false, end, out);
    after_value(s);
    return r;
}

static bool is_bare(const struct rc_json_scan *s, uint8_t c)
{
    bool number = s->bare_len && (s->bare[0] == '-' || (s->bare[0] >= '0' && s->bare[0] <= '9'));

    if (number)
        return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
    return c >= 'a' && c <= 'z';
}

static int in_bare(struct rc_json_scan *s, const uint8_t **at, const uint8_t *end,
                   struct dbx_buf *out)
{
    const uint8_t *p = *at;

    while (p < end && is_bare(s, *p)) {
        if (s->bare_len < sizeof(s->bare))
            s->bare[s->bare_len] = (char)*p;
        s->bare_len++;
        p++;
    }
    if (s->collecting && dbx_buf_append(&s->raw, *at, (size_t)(p - *at)) < 0)
        return -EBADMSG;
    *at = p;
    if (s->collecting)
        s->run = p;
    return p < end ? bare_ends(s, p, out) : 0;
}

static int bare_begins(struct rc_json_scan *s, const uint8_t *p, struct dbx_buf *out)
{
    int r = 0;

    if (!(*p == '-' || (*p >= '0' && *p <= '9') || *p == 't' || *p == 'f' || *p == 'n'))
        return -EBADMSG;
    s->lex = BARE;
    s->bare[0] = (char)*p;
    s->bare_len = 1;
    dbx_buf_clear(&s->raw);
    s->collecting = s->depth <= RC_JSON_KEYS && s->h->wants(s, s->user);
    if (s->collecting) {
        r = pass(s, p, out);
        s->run = p + 1;
        if (r == 0)
            r = dbx_buf_append(&s->raw, p, 1);
    }
    return r;
}

/* --- structure --- */

static int open_container(struct rc_json_scan *s, bool object, const uint8_t *p,
                          struct dbx_buf *out)
{
    int r = pass(s, p, out);

    if (r == 0 && s->h->on_open)
        r = s->h->on_open(s, out, s->user);
    if (r < 0 || s->depth == RC_JSON_DEPTH)
        return r < 0 ? r : -EBADMSG;
    s->object[s->depth] = object;
    if (s->depth < RC_JSON_KEYS)
        s->key[s->depth][0] = '\0';
    s->depth++;
    s->want = object ? KEY_OR_END : VALUE_OR_END;
    return 0;
}

static int close_container(struct rc_json_scan *s, bool object, const uint8_t *p,
                           struct dbx_buf *out)
{
    if (!s->depth || s->object[s->depth - 1] != object)
        return -EBADMSG;
    s->depth--;
    int r = pass(s, p + 1, out);
    if (r == 0 && s->h->on_close)
        r = s->h->on_close(s, out, s->user);
    after_value(s);
    return r;
}

static int begin_value(struct rc_json_scan *s, const uint8_t *p, struct dbx_buf *out)
{
    if (*p == '"')
        return string_begins(s, false, p, out);
    if (*p == '{' || *p == '[')
        return open_container(s, *p == '{', p, out);
    return bare_begins(s, p, out);
}

static int step(struct rc_json_scan *s, const uint8_t *p, struct dbx_buf *out)
{
    switch (s->want) {
    case VALUE:
        return begin_value(s, p, out);
    case VALUE_OR_END:
        return *p == ']' ? close_container(s, false, p, out) : begin_value(s, p, out);
    case KEY_OR_END:
        if (*p == '}')
            return close_container(s, true, p, out);
        return *p == '"' ? string_begins(s, true, p, out) : -EBADMSG;
    case KEY:
        return *p == '"' ? string_begins(s, true, p, out) : -EBADMSG;
    case COLON:
        s->want = VALUE;
        return *p == ':' ? 0 : -EBADMSG;
    case COMMA_OR_END:
        if (*p == '}' || *p == ']')
            return close_container(s, *p == '}', p, out);
        s->want = s->object[s->depth - 1] ? KEY : VALUE;
        return *p == ',' ? 0 : -EBADMSG;
    default:
        return -EBADMSG; /* something behind the document */
    }
}

int rc_json_feed(struct rc_json_scan *s, const void *data, size_t len, struct dbx_buf *out)
{
    const uint8_t *p = data, *end = p + len;
    int r = 0;

    s->run = p;
    while (p < end && r == 0) {
        if (s->lex == STRING) {
            r = in_string(s, &p, end, out);
        } else if (s->lex == BARE) {
            r = in_bare(s, &p, end, out);
        } else {
            if (*p != ' ' && *p != '\n' && *p != '\t' && *p != '\r')
                r = step(s, p, out);
            p++;
        }
    }
    return r < 0 ? r : pass(s, end, out);
}

bool rc_json_done(struct rc_json_scan *s)
{
    if (s->lex == BARE && !s->depth && !s->collecting && bare_valid(s))
        return true;
    return s->lex == NONE && s->want == DONE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A project's index in HTML (PEP 503): its anchors, and <base>. Nothing else of HTML matters, so
 * this knows tags, attributes, comments and a few entities. */
#include "registry-cache/pypi_doc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_TAG (16u << 10)

enum state { TEXT, TAG, COMMENT };

struct html {
    struct rc_pypi_writer w;
    enum state state;
    char quote;         /* that we are in, inside of a tag */
    int dashes;         /* of a comment's end */
    struct dbx_buf tag; /* between '<' and '>' */
};

static void put_char(char **out, uint32_t c)
{
    /* A URL and a version specifier are ASCII; what is not cannot be one of ours. */
    *(*out)++ = c > 0 && c < 0x80 ? (char)c : '?';
}

/* In place. */
static void decode_entities(char *s)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *out = s;

    while (*s) {
        size_t i = 0;
        while (i < DBX_ARRAY_LEN(known) && strncmp(s, known[i].name, strlen(known[i].name)) != 0)
            i++;
        if (i < DBX_ARRAY_LEN(known)) {
            *out++ = known[i].c;
            s += strlen(known[i].name);
        } else if (s[0] == '&' && s[1] == '#' && strchr(s, ';')) {
            bool hex = s[2] == 'x' || s[2] == 'X';
            uint32_t c = 0;
            for (s += hex ? 3 : 2; *s != ';' && *s; s++) {
                uint32_t v = *s >= '0' && *s <= '9' ? (uint32_t)(*s - '0')
                             : hex                  ? (uint32_t)((*s | 0x20) - 'a' + 10)
                                                    : 99;
                c = v < (hex ? 16u : 10u) && c < 0x110000 ? c * (hex ? 16 : 10) + v : 0x110000;
            }
            s += *s == ';';
            put_char(&out, c);
        } else {
            *out++ = *s++;
        }
    }
    *out = '\0';
}

/* Takes the next attribute off the text; the name becomes lower case. False when there is none. */
static bool next_attribute(char **at, char **name, char **value)
{
    char *p = *at + strspn(*at, " \t\r\n/");

    *name = p;
    *value = NULL;
    size_t n = strcspn(p, " \t\r\n=/");
    if (!n)
        return false;
    char *end = p + n;
    for (char *c = p; c < end; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c += 'a' - 'A';
    p = end + strspn(end, " \t\r\n");
    if (*p == '=') {
        p += 1 + strspn(p + 1, " \t\r\n");
        if (*p == '"' || *p == '\'') {
            *value = p + 1;
            p = strchr(p + 1, *p);
            if (!p)
                return false;
            *p++ = '\0';
        } else {
            *value = p;
            p += strcspn(p, " \t\r\n");
            if (*p)
                *p++ = '\0';
        }
        decode_entities(*value);
    }
    *at = p;
    *end = '\0';
    return true;
}

static void set_href(struct rc_pypi_file *f, const char *href)
{
    const char *mark = strchr(href, '#');
    const char *equals = mark ? strchr(mark, '=') : NULL;

    free(f->url);
    f->url = dbx_strndup(href, mark ? (size_t)(mark - href) : strlen(href));
    if (!equals)
        return;
    DBX_CLEANUP(dbx_freep) char *name = dbx_strndup(mark + 1, (size_t)(equals - mark - 1));
    rc_pypi_hash(f, name, equals + 1);
}

static void take_attribute(struct rc_pypi_file *f, const char *name, const char *value)
{
    char **field = strcmp(name, "data-requires-python") == 0      ? &f->requires_python
                   : strcmp(name, "data-yanked") == 0             ? &f->yanked
                   : strcmp(name, "data-core-metadata") == 0      ? &f->metadata
                   : strcmp(name, "data-dist-info-metadata") == 0 ? &f->metadata
                                                                  : NULL;

    if (strcmp(name, "href") == 0 && value) {
        set_href(f, value);
    } else if (field) {
        free(*field);
        *field = dbx_strdup(value ? value : "");
    }
}

static int tag_ends(struct html *h, struct dbx_buf *out)
{
    char *text = (char *)h->tag.data, *at, *name, *value;
    struct rc_pypi_file f = {0};
    struct rc_url base;
    int r = 0;

    if (!text || strlen(text) != h->tag.len)
        return h->tag.len ? -EBADMSG : 0;
    size_t n = strcspn(text, " \t\r\n/");
    bool anchor = n == 1 && (*text == 'a' || *text == 'A');
    bool is_base = n == 4 && strncasecmp(text, "base", 4) == 0;
    if (!anchor && !is_base)
        return 0;
    for (at = text + n; next_attribute(&at, &name, &value);)
        take_attribute(&f, name, value);
    if (f.metadata && strcmp(f.metadata, "false") == 0)
        free(DBX_TAKE(f.metadata));
    if (is_base && f.url && rc_url_resolve(&h->w.from, f.url, &base) == 0)
        h->w.from = base;
    else if (anchor && f.url)
        r = rc_pypi_write(&h->w, &f, out);
    rc_pypi_file_clear(&f);
    return r;
}

static int in_tag(struct html *h, char c, struct dbx_buf *out)
{
    if (h->quote) {
        if (c == h->quote)
            h->quote = 0;
    } else if (c == '"' || c == '\'') {
        h->quote = c;
    } else if (c == '>') {
        h->state = TEXT;
        return tag_ends(h, out);
    }
    if (dbx_buf_append(&h->tag, &c, 1) < 0)
        return -EBADMSG;
    if (h->tag.len == 3 && memcmp(h->tag.data, "!--", 3) == 0) {
        h->state = COMMENT;
        h->dashes = 0;
    }
    return 0;
}

static int html_feed(void *state, const void *data, size_t len, struct dbx_buf *out)
{
    struct html *h = state;
    const char *p = data, *end = p + len;
    int r = 0;

    for (; p < end && r == 0; p++) {
        if (h->state == TAG) {
            r = in_tag(h, *p, out);
        } else if (h->state == COMMENT) {
            if (*p == '>' && h->dashes >= 2)
                h->state = TEXT;
            h->dashes = *p == '-' ? h->dashes + (h->dashes < 2) : 0;
        } else if (*p == '<') {
            h->state = TAG;
            h->quote = 0;
            dbx_buf_clear(&h->tag);
        }
    }
    return r;
}

static int html_end(void *state, struct dbx_buf *out)
{
    struct html *h = state;

    return h->state == TEXT ? rc_pypi_write_end(&h->w, out) : -EBADMSG;
}

void *rc_pypi_html_new(const struct rc_transform_ctx *ctx)
{
    struct html *h = DBX_NEW(struct html);

    rc_pypi_writer_init(&h->w, ctx);
    dbx_buf_init(&h->tag, MAX_TAG);
    return h;
}

static void html_free(void *state)
{
    struct html *h = state;

    dbx_buf_done(&h->tag);
    free(h);
}

const struct rc_transform_ops rc_pypi_html_ops = {html_feed, html_end, html_free};

/* SPDX-License-Identifier: Apache-2.0 */
/* A line is put together in one block on the stack and leaves by one write(2), so that lines of
 * several processes on the same pipe do not mix. What does not fit is cut; the line's end always
 * fits. */
#include "common/base/log.h"
#include "common/base/clock.h"
#include "common/base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE 4096 /* PIPE_BUF: a write of that much is atomic */
#define LINE_TAIL 8    /* kept free for the closing quote, brace and newline */
#define MSG_SIZE 2048
#define MAX_PARENTS 16
#define SITE_LINES 50 /* a second */

static const char *const level_names[] = {"err", "warn", "info", "debug"};

static struct {
    char name[64];
    bool json;
    enum dbx_log_level level;
} settings = {.name = "devbox", .level = DBX_LOG_INFO};

struct line {
    char text[LINE_SIZE];
    size_t len;
    bool full; /* nothing more is taken: a piece did not fit */
};

int dbx_log_level_parse(const char *s)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(level_names); i++)
        if (dbx_streq(s, level_names[i]))
            return (int)i;
    return -EINVAL;
}

void dbx_log_init(const char *name, const char *format, enum dbx_log_level level)
{
    (void)dbx_strcpy(settings.name, sizeof(settings.name), name);
    settings.json = dbx_streq(format, "json");
    settings.level = level;
}

void dbx_log_ctx_init(struct dbx_log_ctx *ctx, const struct dbx_log_ctx *parent, const char *key,
                      const char *value)
{
    ctx->parent = parent;
    ctx->key = key;
    (void)dbx_strcpy(ctx->value, sizeof(ctx->value), value);
}

static void put(struct line *ln, const char *s, size_t len)
{
    if (ln->full || ln->len + len > sizeof(ln->text) - LINE_TAIL) {
        ln->full = true;
        return;
    }
    memcpy(ln->text + ln->len, s, len);
    ln->len += len;
}

static void put_str(struct line *ln, const char *s)
{
    put(ln, s, strlen(s));
}

/* For the quote or brace that closes: takes from the room kept free. */
static void put_end(struct line *ln, const char *s)
{
    size_t len = strlen(s);
    dbx_assert(ln->len + len <= sizeof(ln->text));
    memcpy(ln->text + ln->len, s, len);
    ln->len += len;
}

/* One character of len bytes, or one byte that is none (len 0). C1 controls move cursors on some
 * terminals. */
static void put_char(struct line *ln, const char *s, size_t len)
{
    static const char plain[] = "\"\\\n\r\t", escaped[] = "\"\\nrt";
    unsigned char c = (unsigned char)*s;
    char text[16];
    const char *at;
    if (len == 0) {
        put_str(ln, "\\ufffd");
    } else if (len == 1 && c && (at = strchr(plain, c))) {
        put(ln, (char[]){'\\', escaped[at - plain]}, 2);
    } else if (c < 0x20 || c == 0x7f) {
        snprintf(text, sizeof(text), "\\u%04x", c);
        put_str(ln, text);
    } else if (len == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0) {
        snprintf(text, sizeof(text), "\\u%04x", (unsigned char)s[1]);
        put_str(ln, text);
    } else {
        put(ln, s, len);
    }
}

static void put_quoted(struct line *ln, const char *s)
{
    put(ln, "\"", 1);
    if (ln->full)
        return;
    for (size_t left = strlen(s); left;) {
        bool incomplete;
        size_t good = dbx_utf8_prefix(s, left, &incomplete);
        for (size_t i = 0; i < good;) {
            size_t n = 1;
            while (i + n < good && ((unsigned char)s[i + n] & 0xc0) == 0x80)
                n++;
            put_char(ln, s + i, n);
            i += n;
        }
        s += good;
        left -= good;
        if (left) {
            put_char(ln, s, 0);
            s++;
            left--;
        }
    }
    put_end(ln, "\"");
}

static bool is_bare(const char *s)
{
    static const char ok[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@+-";
    return *s && s[strspn(s, ok)] == '\0';
}

static void put_field(struct line *ln, const char *key, const char *value)
{
    size_t before = ln->len;
    if (settings.json) {
        put_str(ln, ln->len > 1 ? "," : "");
        put_quoted(ln, key);
        put_str(ln, ":");
    } else {
        put_str(ln, ln->len ? " " : "");
        put_str(ln, key);
        put_str(ln, "=");
    }
    if (ln->full) { /* no half field */
        ln->len = before;
        return;
    }
    if (!settings.json && is_bare(value) && !dbx_streq(key, "msg"))
        put_str(ln, value);
    else
        put_quoted(ln, value);
}

/* The root's field first. */
static void put_context(struct line *ln, const struct dbx_log_ctx *ctx)
{
    const struct dbx_log_ctx *chain[MAX_PARENTS];
    size_t n = 0;
    for (; ctx && n < MAX_PARENTS; ctx = ctx->parent)
        chain[n++] = ctx;
    while (n--)
        put_field(ln, chain[n]->key, chain[n]->value);
}

/* Whether this line may go out; *ret_dropped: how many were held back in the second that has ended.
 */
static bool admit(struct dbx_log_site *site, uint32_t *ret_dropped, bool *ret_last)
{
    uint64_t now = dbx_now_ms();
    *ret_dropped = 0;
    *ret_last = false;
    if (!site)
        return true;
    if (site->count == 0 || now - site->window_start_ms >= 1000) {
        *ret_dropped = site->dropped;
        site->window_start_ms = now;
        site->count = site->dropped = 0;
    }
    if (site->count >= SITE_LINES) {
        site->dropped++;
        return false;
    }
    site->count++;
    *ret_last = site->count == SITE_LINES;
    return true;
}

void dbx_log_write(enum dbx_log_level level, const struct dbx_log_ctx *ctx,
                   struct dbx_log_site *site, const char *fmt, ...)
{
    if (level > settings.level)
        return;
    int saved = errno;
    uint32_t dropped;
    bool last;
    if (!admit(site, &dropped, &last)) {
        errno = saved;
        return;
    }
    char msg[MSG_SIZE], text[32];
    va_list ap;
    va_start(ap, fmt);
    errno = saved; /* for %m */
    int n = vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    if (n < 0)
        msg[0] = '\0';

    struct line ln;
    ln.len = 0;
    ln.full = false;
    if (settings.json)
        put_str(&ln, "{");
    dbx_format_time(dbx_wall_us(), text);
    put_field(&ln, "t", text);
    put_field(&ln, "lvl", level_names[level]);
    put_field(&ln, "mod", settings.name);
    put_context(&ln, ctx);
    if (dropped) {
        snprintf(text, sizeof(text), "%u", dropped);
        put_field(&ln, "dropped", text);
    }
    if (last)
        put_field(&ln, "limited", "true");
    put_field(&ln, "msg", msg);
    put_end(&ln, settings.json ? "}\n" : "\n");
    if (write(STDERR_FILENO, ln.text, ln.len) < 0)
        errno = saved; /* where would we say so */
    errno = saved;
}

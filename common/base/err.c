/* SPDX-License-Identifier: Apache-2.0 */
/* Messages end up in JSON and on terminals, and often quote a peer: whatever is put into them, they
 * are valid UTF-8 without control characters. */
#include "common/base/err.h"
#include "common/base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {
    [DBX_OK] = "ok",
    [DBX_INVALID] = "invalid",
    [DBX_NOT_FOUND] = "not_found",
    [DBX_CONFLICT] = "conflict",
    [DBX_DENIED] = "denied",
    [DBX_LIMIT] = "limit",
    [DBX_TIMEOUT] = "timeout",
    [DBX_UNAVAIL] = "unavail",
    [DBX_INTERNAL] = "internal",
};

const char *dbx_kind_name(enum dbx_kind kind)
{
    return (size_t)kind < DBX_ARRAY_LEN(kind_names) ? kind_names[kind] : "internal";
}

int dbx_kind_parse(const char *name)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(kind_names); i++)
        if (dbx_streq(name, kind_names[i]))
            return (int)i;
    return DBX_INTERNAL;
}

static enum dbx_kind kind_of_errno(int e)
{
    switch (e) {
    case ENOENT:
        return DBX_NOT_FOUND;
    case EACCES:
    case EPERM:
        return DBX_DENIED;
    case ENOSPC:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case E2BIG:
    case EDQUOT:
        return DBX_LIMIT;
    case ETIMEDOUT:
        return DBX_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
        return DBX_UNAVAIL;
    case EEXIST:
        return DBX_CONFLICT;
    default:
        return DBX_INTERNAL;
    }
}

/* A character that vsnprintf cut in two at the end is dropped, other wrong bytes become '?'. */
static void make_clean(char *s)
{
    for (size_t i = 0, len = strlen(s); i < len;) {
        bool incomplete;
        size_t good = dbx_utf8_prefix(s + i, len - i, &incomplete);
        i += good;
        if (i == len)
            break;
        if (incomplete)
            s[i] = '\0';
        else
            s[i] = '?';
        if (incomplete)
            break;
    }
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
}

/* Formats into a block of its own first: the arguments may point into err. */
static void set(struct dbx_err *err, int code, enum dbx_kind kind, const char *field,
                const char *fmt, va_list ap)
{
    char msg[sizeof(err->msg)];
    if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
        msg[0] = '\0';
    make_clean(msg);
    char name[sizeof(err->field)];
    (void)dbx_strcpy(name, sizeof(name), field);
    make_clean(name);
    err->code = code;
    err->kind = kind;
    memcpy(err->field, name, sizeof(name));
    memcpy(err->msg, msg, sizeof(msg));
}

int dbx_err_set(struct dbx_err *err, int code, enum dbx_kind kind, const char *fmt, ...)
{
    dbx_assert(code < 0);
    if (!err)
        return code;
    va_list ap;
    va_start(ap, fmt);
    set(err, code, kind, "", fmt, ap);
    va_end(ap);
    return code;
}

int dbx_err_field(struct dbx_err *err, const char *field, const char *fmt, ...)
{
    if (!err)
        return -EINVAL;
    va_list ap;
    va_start(ap, fmt);
    set(err, -EINVAL, DBX_INVALID, field, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* Puts "fmt" and ": " before tail. */
static void set_before(struct dbx_err *err, int code, enum dbx_kind kind, const char *field,
                       const char *tail, const char *fmt, va_list ap)
{
    char head[sizeof(err->msg)], old[sizeof(err->msg)];
    if (vsnprintf(head, sizeof(head), fmt, ap) < 0)
        head[0] = '\0';
    (void)dbx_strcpy(old, sizeof(old), tail);
    int n = snprintf(err->msg, sizeof(err->msg), "%s%s%s", head, *old ? ": " : "", old);
    if (n < 0)
        err->msg[0] = '\0';
    make_clean(err->msg);
    err->code = code;
    err->kind = kind;
    if (field != err->field)
        (void)dbx_strcpy(err->field, sizeof(err->field), field);
}

int dbx_err_wrap(struct dbx_err *err, int code, const char *fmt, ...)
{
    dbx_assert(code < 0);
    if (!err)
        return code;
    bool empty = err->code == 0; /* nobody said why: the code has to do */
    va_list ap;
    va_start(ap, fmt);
    set_before(err, code, empty ? kind_of_errno(-code) : err->kind, empty ? "" : err->field,
               empty ? strerror(-code) : err->msg, fmt, ap);
    va_end(ap);
    return code;
}

int dbx_err_sys(struct dbx_err *err, const char *fmt, ...)
{
    int e = errno ? errno : EIO;
    if (!err)
        return -e;
    va_list ap;
    va_start(ap, fmt);
    set_before(err, -e, kind_of_errno(e), "", strerror(e), fmt, ap);
    va_end(ap);
    errno = e;
    return -e;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/def.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void dbx_assert_failed(const char *what, const char *file, int line)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "%s:%d: assertion failed: %s\n", file, line, what);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    if (write(STDERR_FILENO, text, len) < 0)
        abort(); /* as below: there is nothing more to tell it with */
    abort();
}

static void *checked(void *p)
{
    dbx_assert(p && "out of memory");
    return p;
}

void *dbx_malloc(size_t size)
{
    return checked(malloc(size ? size : 1));
}

void *dbx_calloc(size_t n, size_t size)
{
    return checked(calloc(n ? n : 1, size ? size : 1));
}

void *dbx_realloc(void *p, size_t size)
{
    return checked(realloc(p, size ? size : 1));
}

char *dbx_strdup(const char *s)
{
    return checked(strdup(s));
}

char *dbx_strndup(const char *s, size_t n)
{
    return checked(strndup(s, n));
}

char *dbx_asprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return checked(n < 0 ? NULL : s);
}

void dbx_freep(void *pp)
{
    /* pp is the address of some pointer, whose type is not ours to know */
    void *p;
    memcpy(&p, pp, sizeof(p));
    free(p);
    memset(pp, 0, sizeof(p));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Small definitions every file may use: ownership, assertions, sizes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DBX_CLEANUP(fn) __attribute__((cleanup(fn)))
#define DBX_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DBX_MUST_USE __attribute__((warn_unused_result))
#define DBX_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Moves ownership out of a variable: the only way it is spelled. */
#define DBX_TAKE(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) *dbx_take_p = &(p), dbx_take_v = *dbx_take_p;                                \
        *dbx_take_p = NULL;                                                                        \
        dbx_take_v;                                                                                \
    })
#define DBX_TAKE_FD(fd)                                                                            \
    ({                                                                                             \
        int *dbx_take_p = &(fd), dbx_take_v = *dbx_take_p;                                         \
        *dbx_take_p = -1;                                                                          \
        dbx_take_v;                                                                                \
    })

#define dbx_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Programming errors only, always on; never on input. Aborts with the place. */
#define dbx_assert(cond)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            dbx_assert_failed(#cond, __FILE__, __LINE__);                                          \
    } while (0)
_Noreturn void dbx_assert_failed(const char *what, const char *file, int line);

/* A struct that travels as void * begins with `uint32_t magic`. Aborts when p is not a live one. */
#define DBX_CAST(type, MAGIC, p)                                                                   \
    ({                                                                                             \
        type *dbx_cast_p = (p);                                                                    \
        dbx_assert(dbx_cast_p && dbx_cast_p->magic == (MAGIC));                                    \
        dbx_cast_p;                                                                                \
    })

/* For small objects whose size we choose: abort when memory is out. Whatever a peer sizes goes into
 * a dbx_buf. */
void *dbx_malloc(size_t size) __attribute__((malloc, returns_nonnull));
void *dbx_calloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *dbx_realloc(void *p, size_t size) __attribute__((returns_nonnull));
char *dbx_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *dbx_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *dbx_asprintf(const char *fmt, ...) __attribute__((malloc, returns_nonnull)) DBX_PRINTF(1, 2);
#define DBX_NEW(type) ((type *)dbx_calloc(1, sizeof(type)))

void dbx_freep(void *pp); /* free(*pp), for DBX_CLEANUP */

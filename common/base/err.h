/* SPDX-License-Identifier: Apache-2.0 */
/* The one error type: by value, on the caller's stack. Functions return 0 or a negative errno; the
 * struct says why in words, what kind it is for machines, and which field of the input was wrong.
 * err may be NULL. */
#pragma once

#include "common/base/def.h"

enum dbx_kind {
    DBX_OK,
    DBX_INVALID, /* bad input; `field` names what */
    DBX_NOT_FOUND,
    DBX_CONFLICT,
    DBX_DENIED,
    DBX_LIMIT, /* a quota, a bound, or the machine is full */
    DBX_TIMEOUT,
    DBX_UNAVAIL, /* a peer is away; trying again later may help */
    DBX_INTERNAL,
};

struct dbx_err {
    int code; /* negative errno, 0 when unset */
    enum dbx_kind kind;
    char field[64];
    char msg[240];
};

/* Both return code (which must be negative). */
int dbx_err_set(struct dbx_err *err, int code, enum dbx_kind kind, const char *fmt, ...)
    DBX_PRINTF(4, 5) __attribute__((cold));
/* Bad input: code -EINVAL, kind DBX_INVALID; field as the client wrote it, e.g. "files[2].path". */
int dbx_err_field(struct dbx_err *err, const char *field, const char *fmt, ...) DBX_PRINTF(3, 4)
    __attribute__((cold));
/* "fmt: old message"; keeps kind and field. */
int dbx_err_wrap(struct dbx_err *err, int code, const char *fmt, ...) DBX_PRINTF(3, 4)
    __attribute__((cold));
/* From errno: appends its text, derives the kind (ENOENT NOT_FOUND, EACCES/EPERM DENIED,
 * ENOSPC/EMFILE/ENFILE/ ENOMEM/E2BIG/EDQUOT LIMIT, ETIMEDOUT TIMEOUT, ECONNREFUSED/ECONNRESET/EPIPE
 * UNAVAIL, EEXIST CONFLICT, else INTERNAL). Returns -errno as it was on entry. */
int dbx_err_sys(struct dbx_err *err, const char *fmt, ...) DBX_PRINTF(2, 3) __attribute__((cold));

const char *dbx_kind_name(enum dbx_kind kind); /* "invalid", "not_found", ... */
int dbx_kind_parse(const char *name);          /* the reverse; DBX_INTERNAL for what is unknown */

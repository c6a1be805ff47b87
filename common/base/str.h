/* SPDX-License-Identifier: Apache-2.0 */
/* Strings and numbers from outside. */
#pragma once

#include "common/base/def.h"

/* Decimal, no sign, no space, nothing behind; -EINVAL, or -ERANGE outside [min, max]. */
int dbx_parse_u64(const char *s, size_t len, uint64_t min, uint64_t max,
                  uint64_t *ret) DBX_MUST_USE;
int dbx_parse_i64(const char *s, size_t len, int64_t min, int64_t max, int64_t *ret) DBX_MUST_USE;

bool dbx_streq(const char *a, const char *b); /* NULL-tolerant */
bool dbx_starts_with(const char *s, const char *prefix);
/* Copies with truncation, always terminates; returns whether it fitted. */
bool dbx_strcpy(char *dst, size_t size, const char *src);

void dbx_hex_encode(const void *data, size_t len, char *out);          /* out: 2 * len + 1 */
int dbx_hex_decode(const char *s, size_t len, void *out) DBX_MUST_USE; /* out: len / 2; -EINVAL */

/* RFC 4648. _url: no padding, - and _. Decoders refuse anything else (whitespace too). */
size_t dbx_base64_encode(const void *data, size_t len, char *out,
                         bool url); /* out: (len + 2) / 3 * 4 + 1; returns length */
int dbx_base64_decode(const char *s, size_t len, void *out, size_t *ret_len, bool url) DBX_MUST_USE;

/* Unicode 15 table 3-7. utf8_valid: the whole is well-formed. utf8_prefix: length of the longest
 * prefix that is well-formed; *ret_incomplete says whether what follows may be the beginning of a
 * character that goes on. */
bool dbx_utf8_valid(const void *data, size_t len);
size_t dbx_utf8_prefix(const void *data, size_t len, bool *ret_incomplete);

/* Compares without telling by time where they differ. */
bool dbx_equal_secret(const void *a, const void *b, size_t len);

/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers: UUID version 7 (RFC 9562), ordered by time of creation, as 16 bytes and as text. */
#pragma once

#include "common/base/err.h"

#define DBX_ID_TEXT 37 /* 36 and NUL */

struct dbx_id {
    uint8_t b[16];
};

struct dbx_id dbx_id_new(void); /* monotonic within a process */
void dbx_id_format(const struct dbx_id *id, char out[static DBX_ID_TEXT]);
int dbx_id_parse(const char *s, struct dbx_id *ret)
    DBX_MUST_USE; /* strict lower- or upper-case 8-4-4-4-12; -EINVAL */
bool dbx_id_equal(const struct dbx_id *a, const struct dbx_id *b);
bool dbx_id_is_zero(const struct dbx_id *id);

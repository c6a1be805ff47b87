/* SPDX-License-Identifier: Apache-2.0 */
/* The database schema: schema/NNN_*.sql, compiled in, in order. For dbx_pg_migrate (ext/pg.h).
 * Forward only. */
#pragma once

#include <stddef.h>

extern const char *const dbx_schema[];
extern const size_t dbx_schema_len;

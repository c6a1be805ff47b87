/* SPDX-License-Identifier: Apache-2.0 */
/* Between config.c, which reads, and config_print.c, which tells. */
#pragma once

#include "common/base/config.h"

struct dbx_config__table {
    const struct dbx_config_field *fields;
    size_t n;
    const char *daemon, *summary;
};

#define DBX_CONFIG__MAX_FILE (64u << 10)

static inline void *dbx_config__place(void *cfg, const struct dbx_config_field *f)
{
    return (char *)cfg + f->offset;
}
static inline uint64_t dbx_config__max(const struct dbx_config_field *f)
{
    return f->max ? f->max : UINT64_MAX;
}

/* source: how errors name the file. */
int dbx_config__parse_file(void *cfg, const struct dbx_config__table *table, const char *source,
                           const char *text, size_t len, struct dbx_err *err) DBX_MUST_USE;

/* "max_body" -> "--max-body", and "DEVBOX_GATEWAY_MAX_BODY"; the caller frees. */
char *dbx_config__flag_name(const struct dbx_config_field *f);
char *dbx_config__env_name(const struct dbx_config__table *table, const struct dbx_config_field *f);

void dbx_config__print_help(const struct dbx_config__table *table);
void dbx_config__print_values(void *cfg, const struct dbx_config__table *table);

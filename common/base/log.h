/* SPDX-License-Identifier: Apache-2.0 */
/* Logging to stderr: logfmt (default) or JSON lines. The context hangs on the object that a line is
 * about and is inherited from its parent. Only daemons log; base, io, ext and proto return errors
 * (debug lines excepted). */
#pragma once

#include "common/base/def.h"

enum dbx_log_level { DBX_LOG_ERR, DBX_LOG_WARN, DBX_LOG_INFO, DBX_LOG_DEBUG };

struct dbx_log_ctx {
    const struct dbx_log_ctx *parent; /* borrowed; NULL at the root */
    const char *key;                  /* "sandbox", "process", "conn", "request_id" ... */
    char value[64];
};

/* name: the daemon. format: "logfmt" or "json". Call once from main. */
void dbx_log_init(const char *name, const char *format, enum dbx_log_level level);
int dbx_log_level_parse(const char *s); /* -EINVAL when unknown */
void dbx_log_ctx_init(struct dbx_log_ctx *ctx, const struct dbx_log_ctx *parent, const char *key,
                      const char *value);

/* ctx may be NULL. Preserves errno. Control characters in the message are escaped; a call site that
 * logs more than 50 lines in a second is cut short and says how many were dropped. */
#define dbx_log(level, ctx, ...)                                                                   \
    do {                                                                                           \
        static struct dbx_log_site dbx_log_here;                                                   \
        dbx_log_write((level), (ctx), &dbx_log_here, __VA_ARGS__);                                 \
    } while (0)

struct dbx_log_site {
    uint64_t window_start_ms;
    uint32_t count, dropped;
};
void dbx_log_write(enum dbx_log_level level, const struct dbx_log_ctx *ctx,
                   struct dbx_log_site *site, const char *fmt, ...) DBX_PRINTF(4, 5);

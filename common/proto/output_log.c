/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/output_log.h"

#include <errno.h>

#include "common/base/str.h"
#include "common/proto/output_log_int.h"

int dbx_olog_open(const struct dbx_olog_opts *opts, struct dbx_olog **ret, struct dbx_err *err)
{
    if (dbx_starts_with(opts->url, "file:") && opts->url[5] != '\0')
        return dbx_olog__open_file(opts, opts->url + 5, ret, err);
    if (dbx_starts_with(opts->url, "kafka:"))
        return dbx_olog__open_kafka(opts, opts->url + 6, ret, err);
    return dbx_err_field(err, "output_log", "unknown output log '%s': file:DIR or kafka:HOST:PORT",
                         opts->url);
}

static struct dbx_olog *checked(struct dbx_olog *log)
{
    return DBX_CAST(struct dbx_olog, DBX_OLOG_MAGIC, log);
}

static struct dbx_olog_reader *checked_reader(struct dbx_olog_reader *r)
{
    return DBX_CAST(struct dbx_olog_reader, DBX_OLOG_READER_MAGIC, r);
}

struct dbx_olog *dbx_olog_close(struct dbx_olog *log)
{
    return log ? checked(log)->ops->close(log) : NULL;
}

uint32_t dbx_olog_partition(const struct dbx_id *key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < sizeof(key->b); i++)
        h = (h ^ key->b[i]) * 16777619u;
    return h % DBX_LOG_PARTITIONS;
}

int dbx_olog_append(struct dbx_olog *log, const struct dbx_id *key, const void *head,
                    size_t head_len, const void *data, size_t len, dbx_olog_acked *fn, void *user)
{
    dbx_assert(head_len <= DBX_LOG_MAX_VALUE && len <= DBX_LOG_MAX_VALUE - head_len);
    return checked(log)->ops->append(log, key, head, head_len, data, len, fn, user);
}

void dbx_olog_on_room(struct dbx_olog *log, void (*fn)(void *user), void *user)
{
    checked(log)->ops->on_room(log, fn, user);
}

int dbx_olog_bounds(struct dbx_olog *log, uint32_t partition, int64_t *ret_oldest,
                    int64_t *ret_next, struct dbx_err *err)
{
    dbx_assert(partition < DBX_LOG_PARTITIONS);
    return checked(log)->ops->bounds(log, partition, ret_oldest, ret_next, err);
}

bool dbx_olog_away(struct dbx_olog *log, uint32_t partition)
{
    dbx_assert(partition < DBX_LOG_PARTITIONS);
    return checked(log)->ops->away && log->ops->away(log, partition);
}

void dbx_olog_on_away(struct dbx_olog *log, void (*fn)(void *user), void *user)
{
    if (checked(log)->ops->on_away)
        log->ops->on_away(log, fn, user);
}

struct dbx_olog_reader *dbx_olog_follow(struct dbx_olog *log, const struct dbx_id *key,
                                        int64_t from, const struct dbx_olog_reader_handlers *h,
                                        void *user)
{
    return checked(log)->ops->follow(log, key, from, h, user);
}

void dbx_olog_resume(struct dbx_olog_reader *r)
{
    checked_reader(r)->log->ops->resume(r);
}

void dbx_olog_catch_up(struct dbx_olog_reader *r)
{
    checked_reader(r)->log->ops->catch_up(r);
}

struct dbx_olog_reader *dbx_olog_reader_free(struct dbx_olog_reader *r)
{
    return r ? checked_reader(r)->log->ops->reader_free(r) : NULL;
}

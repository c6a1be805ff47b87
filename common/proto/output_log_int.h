/* SPDX-License-Identifier: Apache-2.0 */
/* What a back end of the output log provides. */
#pragma once

#include "common/proto/output_log.h"

struct dbx_olog_ops {
    struct dbx_olog *(*close)(struct dbx_olog *log);
    int (*append)(struct dbx_olog *log, const struct dbx_id *key, const void *head, size_t head_len,
                  const void *data, size_t len, dbx_olog_acked *fn, void *user);
    void (*on_room)(struct dbx_olog *log, void (*fn)(void *user), void *user);
    int (*bounds)(struct dbx_olog *log, uint32_t partition, int64_t *ret_oldest, int64_t *ret_next,
                  struct dbx_err *err);
    bool (*away)(const struct dbx_olog *log, uint32_t partition); /* both NULL: it never is */
    void (*on_away)(struct dbx_olog *log, void (*fn)(void *user), void *user);
    struct dbx_olog_reader *(*follow)(struct dbx_olog *log, const struct dbx_id *key, int64_t from,
                                      const struct dbx_olog_reader_handlers *h, void *user);
    void (*resume)(struct dbx_olog_reader *r);
    void (*catch_up)(struct dbx_olog_reader *r);
    struct dbx_olog_reader *(*reader_free)(struct dbx_olog_reader *r);
};

/* Each back end's struct begins with this. */
struct dbx_olog {
    uint32_t magic;
    const struct dbx_olog_ops *ops;
};
struct dbx_olog_reader {
    uint32_t magic;
    struct dbx_olog *log;
};
#define DBX_OLOG_MAGIC 0x474f4c4fu
#define DBX_OLOG_READER_MAGIC 0x44414552u

int dbx_olog__open_file(const struct dbx_olog_opts *opts, const char *dir, struct dbx_olog **ret,
                        struct dbx_err *err);
int dbx_olog__open_kafka(const struct dbx_olog_opts *opts, const char *url, struct dbx_olog **ret,
                         struct dbx_err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* The body of POST /api/batches, decoded strictly: every error names its field. Pure; may run on a
 * thread. */
#pragma once

#include "gateway/execution_decode.h"

#define GW_BATCH_MAX 10000        /* executions */
#define GW_BATCH_BODY (64u << 20) /* bytes */
#define GW_BATCH_MAX_PRIORITY 100
#define GW_BATCH_MAX_DEADLINE (7 * 24 * 3600 * 1000ll)
#define GW_BATCH_CHUNK (4u << 20) /* bytes of inputs in one statement, about */
#define GW_BATCH_CHUNK_ITEMS 500

struct gw_batch_rules {
    struct gw_execution_rules execution;
    /* Whether a webhook may go there, as far as its text says; else err has the words. */
    int (*check_url)(const char *url, struct dbx_err *err, void *user);
    void *user;
};

/* What one execution starts with stands in its chunk's blob: request (JSON), files, stdin. */
struct gw_batch_item {
    uint32_t at, request_len, files_len, stdin_len;
    bool has_expected;
    uint8_t expected[32]; /* SHA-256 of stdout */
};

struct gw_batch_chunk {
    struct dbx_buf blob;
    size_t first, count; /* items */
};

struct gw_batch {
    char template[65];
    bool retry_safe, per_batch;                  /* "isolation":"batch" */
    int64_t priority, max_parallel, deadline_ms; /* the last two: 0 when absent */
    char *webhook_url, *webhook_secret;          /* owned, or NULL */
    struct dbx_buf files;                        /* shared */
    struct gw_batch_item *items;                 /* owned */
    size_t nitems;
    struct gw_batch_chunk *chunks; /* owned */
    size_t nchunks;
};

/* ret is all zero before; to be given to gw_batch_done whatever comes. */
int gw_batch_decode(const void *body, size_t len, const struct gw_batch_rules *rules,
                    struct gw_batch *ret, struct dbx_err *err) DBX_MUST_USE;
void gw_batch_done(struct gw_batch *b);

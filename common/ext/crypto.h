/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's digests behind a small face. */
#pragma once

#include "common/base/err.h"

#define DBX_SHA256_LEN 32

void dbx_sha256(const void *data, size_t len, uint8_t out[static DBX_SHA256_LEN]);
struct dbx_sha256_ctx;
struct dbx_sha256_ctx *dbx_sha256_new(void);
void dbx_sha256_update(struct dbx_sha256_ctx *ctx, const void *data, size_t len);
/* Digest so far, and the context goes on. */
void dbx_sha256_peek(const struct dbx_sha256_ctx *ctx, uint8_t out[static DBX_SHA256_LEN]);
struct dbx_sha256_ctx *dbx_sha256_free(struct dbx_sha256_ctx *ctx);
/* What a context has come to, so that another process goes on from there. Plain numbers of this
 * machine. */
struct dbx_sha256_state {
    uint32_t h[8];
    uint64_t bytes; /* all told; bytes % 64 of them are in rest */
    uint8_t rest[64];
};
void dbx_sha256_save(const struct dbx_sha256_ctx *ctx, struct dbx_sha256_state *ret);
void dbx_sha256_restore(struct dbx_sha256_ctx *ctx, const struct dbx_sha256_state *state);

/* The digests that package registries speak of. */
enum dbx_hash_kind { DBX_HASH_SHA1, DBX_HASH_SHA256, DBX_HASH_SHA384, DBX_HASH_SHA512 };
#define DBX_HASH_MAX 64
struct dbx_hash;
size_t dbx_hash_len(enum dbx_hash_kind kind);
struct dbx_hash *dbx_hash_new(enum dbx_hash_kind kind);
void dbx_hash_update(struct dbx_hash *h, const void *data, size_t len);
/* Writes dbx_hash_len bytes; nothing may be added after it. */
void dbx_hash_final(struct dbx_hash *h, uint8_t out[static DBX_HASH_MAX]);
struct dbx_hash *dbx_hash_free(struct dbx_hash *h); /* NULL-tolerant; returns NULL */

void dbx_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                     uint8_t out[static DBX_SHA256_LEN]);
/* Castagnoli, by hardware where there is any. Begin with crc 0; goes on from what it returned. */
uint32_t dbx_crc32c(uint32_t crc, const void *data, size_t len);

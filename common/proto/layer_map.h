/* SPDX-License-Identifier: Apache-2.0 */
/* What a dependency layer's key stands for, as nodes tell each other through the registry cache
 * (docs/protocols.md, "Layers between nodes"): a tar.zst in parts that are blobs by their digest.
 * The seal is a token of the cluster's ring over key and digest: a node believes no other, whoever
 * keeps the words. */
#pragma once

#include "common/base/buf.h"
#include "common/ext/crypto.h"
#include "common/proto/token.h"

#define DBX_LAYER_PART (8u << 20) /* bytes of each part but the last */
#define DBX_LAYER_MAX_PARTS 512
#define DBX_LAYER_MAP_MAX (64u << 10) /* bytes of the words */

struct dbx_layer_map {
    uint8_t sha256[DBX_SHA256_LEN]; /* of all parts, one after the other */
    uint64_t size;
    size_t n_parts;
    uint8_t (*parts)[DBX_SHA256_LEN]; /* owned */
    char seal[DBX_TOKEN_MAX];
};
void dbx_layer_map_done(struct dbx_layer_map *map);

/* The length of that part. */
size_t dbx_layer_map_part(const struct dbx_layer_map *map, size_t i);
/* Sets size, and makes room for the digests; -E2BIG: there are too many parts. */
int dbx_layer_map_init(struct dbx_layer_map *map, uint64_t size) DBX_MUST_USE;

/* Strict. What is in the seal is not looked at. */
int dbx_layer_map_read(const void *data, size_t len, struct dbx_layer_map *ret,
                       struct dbx_err *err) DBX_MUST_USE;
int dbx_layer_map_write(const struct dbx_layer_map *map, struct dbx_buf *out) DBX_MUST_USE;

/* key: the layer's, hex. Times: unix seconds. */
void dbx_layer_map_seal(struct dbx_layer_map *map, const struct dbx_keyring *ring, const char *key,
                        int64_t expires);
int dbx_layer_map_verify(const struct dbx_layer_map *map, const struct dbx_keyring *ring,
                         const char *key, int64_t now, struct dbx_err *err) DBX_MUST_USE;

/* SPDX-License-Identifier: Apache-2.0 */
/* Hash map from a byte-string key (copied) to a pointer (borrowed). SipHash with a random key: keys
 * may be hostile. */
#pragma once

#include "common/base/def.h"

struct dbx_map;

struct dbx_map *dbx_map_new(void);
struct dbx_map *dbx_map_free(struct dbx_map *map); /* not the values; NULL-tolerant; returns NULL */
void *dbx_map_get(const struct dbx_map *map, const void *key, size_t len);
/* Returns the value that stood there before, or NULL. value must not be NULL. */
void *dbx_map_put(struct dbx_map *map, const void *key, size_t len, void *value);
void *dbx_map_del(struct dbx_map *map, const void *key,
                  size_t len); /* returns what was removed, or NULL */
size_t dbx_map_count(const struct dbx_map *map);

/* Walks all entries in no order. The current one may be deleted while walking; nothing may be put.
 */
struct dbx_map_iter {
    size_t i;
    const void *key;
    size_t key_len;
    void *value;
};
bool dbx_map_next(const struct dbx_map *map, struct dbx_map_iter *iter); /* begin with {0} */

#define DBX_MAP_GET_STR(m, s) dbx_map_get((m), (s), strlen(s))

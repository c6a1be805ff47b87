/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/layer_map.h"

#include "common/base/str.h"
#include "common/ext/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEX (2 * DBX_SHA256_LEN)

void dbx_layer_map_done(struct dbx_layer_map *map)
{
    free(map->parts);
    *map = (struct dbx_layer_map){0};
}

int dbx_layer_map_init(struct dbx_layer_map *map, uint64_t size)
{
    uint64_t n = size / DBX_LAYER_PART + (size % DBX_LAYER_PART != 0);
    if (size == 0 || n > DBX_LAYER_MAX_PARTS)
        return -E2BIG;
    *map = (struct dbx_layer_map){.size = size, .n_parts = (size_t)n};
    map->parts = dbx_calloc(map->n_parts, sizeof(*map->parts));
    return 0;
}

size_t dbx_layer_map_part(const struct dbx_layer_map *map, size_t i)
{
    uint64_t left = map->size - (uint64_t)i * DBX_LAYER_PART;
    return left < DBX_LAYER_PART ? (size_t)left : DBX_LAYER_PART;
}

/* ---- words ---- */

static int read_digest(const struct dbx_json *node, uint8_t out[static DBX_SHA256_LEN])
{
    size_t len;
    const char *text = dbx_json_str(node, &len);
    return text && len == HEX ? dbx_hex_decode(text, HEX, out) : -EINVAL;
}

int dbx_layer_map_read(const void *data, size_t len, struct dbx_layer_map *ret, struct dbx_err *err)
{
    struct words {
        const struct dbx_json *sha256, *parts;
        int64_t size;
        const char *seal;
    } w = {0};
#define AT(name) offsetof(struct words, name)
    static const struct dbx_json_field fields[] = {
        {"sha256", DBX_JSON_NULL, AT(sha256), DBX_JSON_REQUIRED, 0, 0, false},
        {"size", DBX_JSON_INT, AT(size), DBX_JSON_REQUIRED, 1,
         (int64_t)DBX_LAYER_PART * DBX_LAYER_MAX_PARTS, false},
        {"parts", DBX_JSON_ARRAY, AT(parts), DBX_JSON_REQUIRED, 1, DBX_LAYER_MAX_PARTS, false},
        {"seal", DBX_JSON_STRING, AT(seal), DBX_JSON_REQUIRED, 1, DBX_TOKEN_MAX - 1, false},
    };
#undef AT
    static const struct dbx_json_limits limits = {.max_depth = 4,
                                                  .max_nodes = DBX_LAYER_MAX_PARTS + 16};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_layer_map map = {0};
    int r = dbx_json_parse(data, len, &limits, &doc, err);
    if (r == 0)
        r = dbx_json_decode(dbx_json_root(doc), fields, DBX_ARRAY_LEN(fields), &w, "", err);
    if (r < 0)
        return r;
    if (dbx_layer_map_init(&map, (uint64_t)w.size) < 0 || map.n_parts != dbx_json_count(w.parts))
        r = dbx_err_field(err, "parts", "are not as many as the size asks for");
    for (size_t i = 0; r == 0 && i < map.n_parts; i++)
        if (read_digest(dbx_json_at(w.parts, i), map.parts[i]) < 0)
            r = dbx_err_field(err, "parts", "one is no sha256 in hex");
    if (r == 0 && read_digest(w.sha256, map.sha256) < 0)
        r = dbx_err_field(err, "sha256", "is no sha256 in hex");
    if (r < 0) {
        dbx_layer_map_done(&map);
        return r;
    }
    (void)dbx_strcpy(map.seal, sizeof(map.seal), w.seal);
    *ret = map;
    return 0;
}

int dbx_layer_map_write(const struct dbx_layer_map *map, struct dbx_buf *out)
{
    char hex[HEX + 1];
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_hex_encode(map->sha256, DBX_SHA256_LEN, hex);
    dbx_jw_kstr(w, "sha256", hex);
    dbx_jw_ki64(w, "size", (int64_t)map->size);
    dbx_jw_key(w, "parts");
    dbx_jw_array(w);
    for (size_t i = 0; i < map->n_parts; i++) {
        dbx_hex_encode(map->parts[i], DBX_SHA256_LEN, hex);
        dbx_jw_str(w, hex);
    }
    dbx_jw_array_end(w);
    dbx_jw_kstr(w, "seal", map->seal);
    dbx_jw_object_end(w);
    return dbx_jw_end(&w);
}

/* ---- the seal ---- */

/* A label holds 64 characters: a digest over both. */
static void label_of(const struct dbx_layer_map *map, const char *key, char out[static HEX + 1])
{
    struct dbx_sha256_ctx *sha = dbx_sha256_new();
    uint8_t sum[DBX_SHA256_LEN];
    dbx_sha256_update(sha, map->sha256, DBX_SHA256_LEN);
    dbx_sha256_update(sha, key, strlen(key));
    dbx_sha256_peek(sha, sum);
    dbx_sha256_free(sha);
    dbx_hex_encode(sum, sizeof(sum), out);
}

void dbx_layer_map_seal(struct dbx_layer_map *map, const struct dbx_keyring *ring, const char *key,
                        int64_t expires)
{
    struct dbx_token t = {.kind = DBX_TOKEN_LAYER, .expires = expires};
    label_of(map, key, t.label);
    int r = dbx_token_sign(ring, &t, map->seal);
    dbx_assert(r == 0);
}

int dbx_layer_map_verify(const struct dbx_layer_map *map, const struct dbx_keyring *ring,
                         const char *key, int64_t now, struct dbx_err *err)
{
    struct dbx_token t;
    char label[HEX + 1];
    int r = dbx_token_verify(ring, map->seal, DBX_TOKEN_LAYER, now, &t, err);
    label_of(map, key, label);
    if (r == 0 && !dbx_streq(t.label, label))
        r = dbx_err_set(err, -EACCES, DBX_DENIED, "the seal is of another layer");
    return r;
}

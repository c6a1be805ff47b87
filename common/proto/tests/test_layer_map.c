/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/layer_map.h"
#include "common/proto/token_int.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <string.h>

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static struct dbx_keyring *ring_of(const char *text)
{
    struct dbx_keyring *ring = dbx_keyring__parse(text, strlen(text), "test", NULL);
    CHECK(ring != NULL);
    return ring;
}

static void test_sizes(void)
{
    struct dbx_layer_map map;
    CHECK_EQ(dbx_layer_map_init(&map, 0), -E2BIG);
    CHECK_EQ(dbx_layer_map_init(&map, (uint64_t)DBX_LAYER_PART * DBX_LAYER_MAX_PARTS + 1), -E2BIG);
    CHECK_EQ(dbx_layer_map_init(&map, UINT64_MAX), -E2BIG);
    CHECK_EQ(dbx_layer_map_init(&map, DBX_LAYER_PART), 0);
    CHECK_EQ(map.n_parts, 1);
    CHECK_EQ(dbx_layer_map_part(&map, 0), DBX_LAYER_PART);
    dbx_layer_map_done(&map);
    CHECK_EQ(dbx_layer_map_init(&map, DBX_LAYER_PART + 7), 0);
    CHECK_EQ(map.n_parts, 2);
    CHECK_EQ(dbx_layer_map_part(&map, 1), 7);
    dbx_layer_map_done(&map);
}

static void test_words(void)
{
    struct dbx_layer_map map, back = {0};
    struct dbx_buf words = {.max = DBX_LAYER_MAP_MAX};
    struct dbx_err err = {0};
    CHECK_EQ(dbx_layer_map_init(&map, (uint64_t)DBX_LAYER_PART * DBX_LAYER_MAX_PARTS), 0);
    memset(map.parts, 7, map.n_parts * sizeof(*map.parts));
    memset(map.seal, 's', sizeof(map.seal) - 1);
    CHECK_EQ(dbx_layer_map_write(&map, &words), 0);
    CHECK_EQ(dbx_layer_map_read(words.data, words.len, &back, &err), 0);
    CHECK_EQ(back.n_parts, DBX_LAYER_MAX_PARTS);
    CHECK_EQ(memcmp(back.parts, map.parts, map.n_parts * sizeof(*map.parts)), 0);
    CHECK_STR(back.seal, map.seal);
    CHECK(dbx_layer_map_read(words.data, words.len - 1, &back, &err) < 0);
    static const char many[] = "{\"sha256\":\"" KEY_A "\",\"size\":1,\"parts\":[\"" KEY_A
                               "\",\"" KEY_A "\"],\"seal\":\"x\"}";
    CHECK(dbx_layer_map_read(many, strlen(many), &map, &err) < 0);
    CHECK_STR(err.field, "parts");
    dbx_layer_map_done(&map);
    dbx_layer_map_done(&back);
    dbx_buf_done(&words);
}

/* Of this key and this digest, by this ring, for so long. */
static void test_seal(void)
{
    struct dbx_keyring *ring = ring_of("1 " KEY_A "\n"), *other = ring_of("1 " KEY_B "\n");
    struct dbx_layer_map map;
    struct dbx_err err = {0};
    CHECK_EQ(dbx_layer_map_init(&map, 1), 0);
    dbx_layer_map_seal(&map, ring, KEY_A, 1000);
    CHECK_EQ(dbx_layer_map_verify(&map, ring, KEY_A, 1000, &err), 0);
    CHECK_EQ(dbx_layer_map_verify(&map, ring, KEY_B, 1000, &err), -EACCES);
    CHECK_EQ(dbx_layer_map_verify(&map, other, KEY_A, 1000, &err), -EACCES);
    CHECK_EQ(dbx_layer_map_verify(&map, ring, KEY_A, 5000, &err), -ETIME);
    map.sha256[31] ^= 1;
    CHECK_EQ(dbx_layer_map_verify(&map, ring, KEY_A, 1000, &err), -EACCES);
    struct dbx_token daemon = {.kind = DBX_TOKEN_DAEMON, .expires = 1000};
    CHECK_EQ(dbx_token_sign(ring, &daemon, map.seal), 0);
    CHECK_EQ(dbx_layer_map_verify(&map, ring, KEY_A, 1000, &err), -EACCES);
    dbx_layer_map_done(&map);
    dbx_keyring_free(ring);
    dbx_keyring_free(other);
}

int main(void)
{
    test_sizes();
    test_words();
    test_seal();
    return check_result();
}

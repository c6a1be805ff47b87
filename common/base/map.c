/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing. A removed entry leaves a tombstone, so that nothing moves
 * while somebody walks; tombstones go when the run they stand in ends, or with the next growth. */
#include "common/base/map.h"
#include "common/base/rand.h"

#include <stdlib.h>
#include <string.h>

#define MIN_SLOTS 16

struct slot {
    uint64_t hash;
    void *key; /* owned; NULL: free, or &tombstone */
    size_t key_len;
    void *value; /* borrowed */
};

struct dbx_map {
    struct slot *slots; /* owned; NULL until the first put */
    size_t mask;        /* number of slots - 1 */
    size_t count, tombs;
    uint64_t seed[2];
};

static char tombstone;

static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[static 4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 on a little-endian machine. */
static uint64_t sip_hash(const uint64_t seed[static 2], const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du,
                     seed[0] ^ 0x6c7967656e657261u, seed[1] ^ 0x7465646279746573u};
    uint64_t word;
    size_t left = len;
    for (; left >= 8; p += 8, left -= 8) {
        memcpy(&word, p, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    word = (uint64_t)len << 56;
    for (size_t i = 0; i < left; i++)
        word |= (uint64_t)p[i] << (8 * i);
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static bool live(const struct slot *s)
{
    return s->key && s->key != &tombstone;
}

struct dbx_map *dbx_map_new(void)
{
    struct dbx_map *map = DBX_NEW(struct dbx_map);
    dbx_random(map->seed, sizeof(map->seed));
    return map;
}

struct dbx_map *dbx_map_free(struct dbx_map *map)
{
    if (!map)
        return NULL;
    for (size_t i = 0; map->slots && i <= map->mask; i++)
        if (live(&map->slots[i]))
            free(map->slots[i].key);
    free(map->slots);
    free(map);
    return NULL;
}

static struct slot *find(const struct dbx_map *map, uint64_t hash, const void *key, size_t len)
{
    if (!map->slots)
        return NULL;
    for (size_t i = hash & map->mask;; i = (i + 1) & map->mask) {
        struct slot *s = &map->slots[i];
        if (!s->key)
            return NULL;
        if (live(s) && s->hash == hash && s->key_len == len &&
            (len == 0 || memcmp(s->key, key, len) == 0))
            return s;
    }
}

/* Makes room for one more: twice the slots, or as many when it is tombstones that fill them. */
static void make_room(struct dbx_map *map)
{
    size_t slots = map->slots ? map->mask + 1 : 0;
    if ((map->count + map->tombs + 1) * 4 <= slots * 3)
        return;
    size_t want = slots ? slots : MIN_SLOTS;
    while ((map->count + 1) * 2 > want)
        want *= 2;
    struct slot *old = map->slots;
    map->slots = dbx_calloc(want, sizeof(*old));
    map->mask = want - 1;
    map->tombs = 0;
    for (size_t i = 0; i < slots; i++) {
        if (!live(&old[i]))
            continue;
        size_t at = old[i].hash & map->mask;
        while (map->slots[at].key)
            at = (at + 1) & map->mask;
        map->slots[at] = old[i];
    }
    free(old);
}

void *dbx_map_get(const struct dbx_map *map, const void *key, size_t len)
{
    const struct slot *s = find(map, sip_hash(map->seed, key, len), key, len);
    return s ? s->value : NULL;
}

void *dbx_map_put(struct dbx_map *map, const void *key, size_t len, void *value)
{
    dbx_assert(value);
    uint64_t hash = sip_hash(map->seed, key, len);
    struct slot *s = find(map, hash, key, len);
    if (s) {
        void *old = s->value;
        s->value = value;
        return old;
    }
    make_room(map);
    size_t at = hash & map->mask;
    while (live(&map->slots[at]))
        at = (at + 1) & map->mask;
    s = &map->slots[at];
    if (s->key == &tombstone)
        map->tombs--;
    void *copy = dbx_malloc(len);
    if (len)
        memcpy(copy, key, len);
    *s = (struct slot){.hash = hash, .key = copy, .key_len = len, .value = value};
    map->count++;
    return NULL;
}

void *dbx_map_del(struct dbx_map *map, const void *key, size_t len)
{
    struct slot *s = find(map, sip_hash(map->seed, key, len), key, len);
    if (!s)
        return NULL;
    void *value = s->value;
    free(s->key);
    *s = (struct slot){.key = &tombstone};
    map->count--;
    map->tombs++;
    size_t at = (size_t)(s - map->slots);
    if (map->slots[(at + 1) & map->mask].key)
        return value;
    while (map->slots[at].key == &tombstone) {
        map->slots[at].key = NULL;
        map->tombs--;
        at = (at - 1) & map->mask;
    }
    return value;
}

size_t dbx_map_count(const struct dbx_map *map)
{
    return map->count;
}

bool dbx_map_next(const struct dbx_map *map, struct dbx_map_iter *iter)
{
    while (map->slots && iter->i <= map->mask) {
        const struct slot *s = &map->slots[iter->i++];
        if (!live(s))
            continue;
        iter->key = s->key;
        iter->key_len = s->key_len;
        iter->value = s->value;
        return true;
    }
    return false;
}

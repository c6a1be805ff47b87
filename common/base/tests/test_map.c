/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/list.h"
#include "common/base/map.h"
#include "tests/unit/check.h"

static int values[20000];

static void test_basic(void)
{
    struct dbx_map *map = dbx_map_new();
    CHECK(DBX_MAP_GET_STR(map, "a") == NULL);
    CHECK(dbx_map_del(map, "a", 1) == NULL);
    CHECK(dbx_map_put(map, "a", 1, &values[1]) == NULL);
    CHECK(dbx_map_put(map, "a", 1, &values[2]) == &values[1]);
    CHECK(dbx_map_put(map, "", 0, &values[3]) == NULL);
    CHECK(dbx_map_put(map, "a\0b", 3, &values[4]) == NULL);
    CHECK_EQ(dbx_map_count(map), 3);
    CHECK(dbx_map_get(map, "a", 1) == &values[2]);
    CHECK(dbx_map_get(map, NULL, 0) == &values[3]);
    CHECK(dbx_map_get(map, "a\0b", 3) == &values[4]);
    CHECK(dbx_map_del(map, "a", 1) == &values[2]);
    CHECK(dbx_map_get(map, "a", 1) == NULL);
    CHECK_EQ(dbx_map_count(map), 2);
    CHECK(dbx_map_free(map) == NULL);
    CHECK(dbx_map_free(NULL) == NULL);
}

/* The model is an array that says which keys are there. */
static void test_churn(void)
{
    enum { KEYS = 500, STEPS = 200000 };
    struct dbx_map *map = dbx_map_new();
    static bool there[KEYS];
    uint32_t rnd = 12345;
    size_t count = 0, wrong = 0;
    for (int i = 0; i < STEPS; i++) {
        rnd = rnd * 1664525 + 1013904223;
        uint32_t key = (rnd >> 8) % KEYS;
        if (rnd >> 31) {
            void *old = dbx_map_put(map, &key, sizeof(key), &values[key]);
            wrong += (old != NULL) != there[key];
            count += !there[key];
            there[key] = true;
        } else {
            void *old = dbx_map_del(map, &key, sizeof(key));
            wrong += (old == &values[key]) != there[key];
            count -= there[key];
            there[key] = false;
        }
        wrong += dbx_map_count(map) != count;
    }
    for (uint32_t key = 0; key < KEYS; key++)
        wrong += (dbx_map_get(map, &key, sizeof(key)) == &values[key]) != there[key];
    CHECK_EQ(wrong, 0);
    dbx_map_free(map);
}

static void test_walk(void)
{
    struct dbx_map *map = dbx_map_new();
    struct dbx_map_iter it = {0};
    CHECK(!dbx_map_next(map, &it));
    for (int i = 0; i < 20000; i++)
        (void)dbx_map_put(map, &i, sizeof(i), &values[i]);
    size_t seen = 0, wrong = 0;
    for (it = (struct dbx_map_iter){0}; dbx_map_next(map, &it); seen++) {
        int key;
        wrong += it.key_len != sizeof(key);
        memcpy(&key, it.key, sizeof(key));
        wrong += it.value != &values[key];
        if (key % 2)
            wrong += dbx_map_del(map, &key, sizeof(key)) != &values[key];
    }
    CHECK_EQ(seen, 20000);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(dbx_map_count(map), 10000);
    for (it = (struct dbx_map_iter){0};
         dbx_map_next(map, &it);) /* by the key that is the map's own */
        (void)dbx_map_del(map, it.key, it.key_len);
    CHECK_EQ(dbx_map_count(map), 0);
    dbx_map_free(map);
}

struct item {
    int n;
    struct dbx_list node;
};

static void test_list(void)
{
    struct dbx_list head, *at, *tmp;
    struct item items[4];
    dbx_list_init(&head);
    CHECK(dbx_list_empty(&head));
    CHECK(dbx_list_first(&head, struct item, node) == NULL);
    for (int i = 0; i < 4; i++) {
        items[i].n = i;
        dbx_list_push(&head, &items[i].node);
    }
    dbx_list_remove(&items[2].node);
    dbx_list_remove(&items[2].node);
    dbx_list_push_front(&head, &items[2].node);
    int order = 0;
    dbx_list_each(at, tmp, &head)
    {
        order = order * 10 + dbx_list_entry(at, struct item, node)->n;
        dbx_list_remove(at);
    }
    CHECK_EQ(order, 2013);
    CHECK(dbx_list_empty(&head));

    struct dbx_list to;
    dbx_list_init(&to);
    dbx_list_take_all(&head, &to);
    CHECK(dbx_list_empty(&to));
    dbx_list_push(&to, &items[3].node);
    dbx_list_push(&head, &items[0].node);
    dbx_list_push(&head, &items[1].node);
    dbx_list_take_all(&head, &to);
    CHECK(dbx_list_empty(&head));
    order = 0;
    dbx_list_each(at, tmp, &to) order = order * 10 + dbx_list_entry(at, struct item, node)->n;
    CHECK_EQ(order, 301);
    CHECK(dbx_list_entry(to.prev, struct item, node) == &items[1]);
}

int main(void)
{
    test_basic();
    test_churn();
    test_walk();
    test_list();
    return check_result();
}

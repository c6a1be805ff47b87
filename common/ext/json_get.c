/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a parsed document. */
#include "common/ext/json_int.h"

#include <string.h>

enum dbx_json_type dbx_json_type(const struct dbx_json *node)
{
    return node ? node->type : DBX_JSON_NULL;
}

static bool is_many(const struct dbx_json *node)
{
    return node && (node->type == DBX_JSON_ARRAY || node->type == DBX_JSON_OBJECT);
}

static int compare(const char *key, size_t len, const struct dbx_json__member *m)
{
    if (len != m->key_len)
        return len < m->key_len ? -1 : 1;
    return memcmp(key, m->key, len);
}

const struct dbx_json *dbx_json_get(const struct dbx_json *object, const char *key)
{
    if (!object || object->type != DBX_JSON_OBJECT)
        return NULL;
    const struct dbx_json__member *members = object->u.many.members;
    const uint32_t *order = object->u.many.order;
    size_t len = strlen(key), low = 0, high = object->u.many.count;
    for (size_t i = 0; !order && i < high; i++)
        if (compare(key, len, &members[i]) == 0)
            return &members[i].value;
    while (order && low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare(key, len, &members[order[mid]]);
        if (c == 0)
            return &members[order[mid]].value;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

size_t dbx_json_count(const struct dbx_json *node)
{
    return is_many(node) ? node->u.many.count : 0;
}

const struct dbx_json *dbx_json_at(const struct dbx_json *array, size_t i)
{
    if (dbx_json_type(array) != DBX_JSON_ARRAY || i >= array->u.many.count)
        return NULL;
    return &array->u.many.members[i].value;
}

const char *dbx_json_key(const struct dbx_json *object, size_t i, const struct dbx_json **ret_value)
{
    if (dbx_json_type(object) != DBX_JSON_OBJECT || i >= object->u.many.count)
        return NULL;
    if (ret_value)
        *ret_value = &object->u.many.members[i].value;
    return object->u.many.members[i].key;
}

const char *dbx_json_str(const struct dbx_json *node, size_t *ret_len)
{
    if (dbx_json_type(node) != DBX_JSON_STRING)
        return NULL;
    if (ret_len)
        *ret_len = node->u.str.len;
    return node->u.str.s;
}

int64_t dbx_json_i64(const struct dbx_json *node, int64_t otherwise)
{
    return dbx_json_type(node) == DBX_JSON_INT ? node->u.i : otherwise;
}

double dbx_json_double(const struct dbx_json *node, double otherwise)
{
    if (dbx_json_type(node) == DBX_JSON_INT)
        return (double)node->u.i;
    return dbx_json_type(node) == DBX_JSON_DOUBLE ? node->u.d : otherwise;
}

bool dbx_json_bool(const struct dbx_json *node, bool otherwise)
{
    return dbx_json_type(node) == DBX_JSON_BOOL ? node->u.b : otherwise;
}

const char *dbx_json_get_str(const struct dbx_json *object, const char *key)
{
    return dbx_json_str(dbx_json_get(object, key), NULL);
}

int64_t dbx_json_get_i64(const struct dbx_json *object, const char *key, int64_t otherwise)
{
    return dbx_json_i64(dbx_json_get(object, key), otherwise);
}

bool dbx_json_get_bool(const struct dbx_json *object, const char *key, bool otherwise)
{
    return dbx_json_bool(dbx_json_get(object, key), otherwise);
}

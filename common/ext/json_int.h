/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed document, for the json_*.c only. */
#pragma once

#include "common/ext/json.h"

struct dbx_json {
    enum dbx_json_type type;
    bool has_nul; /* of a string */
    union {
        bool b;
        int64_t i;
        double d;
        struct {
            const char *s;
            size_t len;
        } str;
        struct {
            const struct dbx_json__member *members;
            const uint32_t *order; /* of a large object: members sorted by key; else NULL */
            uint32_t count;
        } many; /* array or object */
    } u;
};

struct dbx_json__member {
    const char *key; /* NULL in an array */
    size_t key_len;
    struct dbx_json value;
};

/* "12.5": what a double is written as; at least one of . e in it. out is always terminated. */
#define DBX_JSON__DOUBLE_SIZE 40
void dbx_json__print_double(double v, char out[static DBX_JSON__DOUBLE_SIZE]);

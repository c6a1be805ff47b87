/* SPDX-License-Identifier: Apache-2.0 */
/* JSON (RFC 8259) on yajl: its streaming parser into our own bounded tree, and a writer on
 * yajl_gen. Duplicate keys, comments, invalid UTF-8, lone surrogates, NUL in keys and anything
 * behind the document are errors. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

enum dbx_json_type {
    DBX_JSON_NULL,
    DBX_JSON_BOOL,
    DBX_JSON_INT,
    DBX_JSON_DOUBLE,
    DBX_JSON_STRING,
    DBX_JSON_ARRAY,
    DBX_JSON_OBJECT
};

struct dbx_json; /* a node; lives as long as its document */
struct dbx_json_doc;

struct dbx_json_limits {
    uint32_t max_depth; /* default 32 */
    uint32_t max_nodes; /* default 100,000 */
};

int dbx_json_parse(const void *data, size_t len, const struct dbx_json_limits *limits,
                   struct dbx_json_doc **ret, struct dbx_err *err) DBX_MUST_USE;
struct dbx_json_doc *dbx_json_doc_free(struct dbx_json_doc *doc);
void dbx_json_doc_freep(struct dbx_json_doc **doc);
const struct dbx_json *dbx_json_root(const struct dbx_json_doc *doc);

/* All take NULL for a node that is not there and then say "nothing". */
enum dbx_json_type dbx_json_type(const struct dbx_json *node); /* DBX_JSON_NULL for NULL */
const struct dbx_json *dbx_json_get(const struct dbx_json *object, const char *key);
size_t dbx_json_count(const struct dbx_json *array_or_object);
const struct dbx_json *dbx_json_at(const struct dbx_json *array, size_t i);
const char *dbx_json_key(const struct dbx_json *object, size_t i,
                         const struct dbx_json **ret_value);
const char *dbx_json_str(const struct dbx_json *node,
                         size_t *ret_len); /* NULL unless a string; NUL-terminated */
int64_t dbx_json_i64(const struct dbx_json *node,
                     int64_t otherwise); /* otherwise unless an integer */
double dbx_json_double(const struct dbx_json *node, double otherwise);
bool dbx_json_bool(const struct dbx_json *node, bool otherwise);
/* Shorthands for what our own daemons send: get(object, key) and convert. */
const char *dbx_json_get_str(const struct dbx_json *object, const char *key); /* or NULL */
int64_t dbx_json_get_i64(const struct dbx_json *object, const char *key, int64_t otherwise);
bool dbx_json_get_bool(const struct dbx_json *object, const char *key, bool otherwise);

/* Strict decoding of what clients send, by table. Unknown keys, wrong types and values out of range
 * are errors that name the field ("limits.cpu_ms"). */
enum { DBX_JSON_REQUIRED = 1, DBX_JSON_NULLABLE = 2 };
struct dbx_json_field {
    const char *name;
    /* INT: int64_t, STRING: const char * (into the document), BOOL: bool; ARRAY, OBJECT, DOUBLE (an
     * integer is one too) and NULL (which takes any value): const struct dbx_json *. */
    enum dbx_json_type type;
    size_t offset;
    uint32_t flags;
    int64_t min,
        max; /* INT: the value; STRING: its length in bytes; ARRAY: its count; 0, 0: unbounded */
    bool
        allow_nul; /* STRING may hold NUL bytes; it then goes into a const struct dbx_json *, too */
};
/* What is absent, or null where that is allowed, leaves its place in target as it was: put the
 * defaults there before. prefix: "" or "limits." */
int dbx_json_decode(const struct dbx_json *object, const struct dbx_json_field *fields, size_t n,
                    void *target, const char *prefix, struct dbx_err *err) DBX_MUST_USE;

/* Writer: appends to a buffer. Any failure (too large, wrong nesting, invalid UTF-8) is kept and
 * told by _end. */
struct dbx_jw;
struct dbx_jw *dbx_jw_new(struct dbx_buf *out);
/* Frees it; 0 or -errno: the first failure; then the buffer is as long as before dbx_jw_new. */
int dbx_jw_end(struct dbx_jw **w) DBX_MUST_USE;
void dbx_jw_object(struct dbx_jw *w);     /* { */
void dbx_jw_object_end(struct dbx_jw *w); /* } */
void dbx_jw_array(struct dbx_jw *w);
void dbx_jw_array_end(struct dbx_jw *w);
void dbx_jw_key(struct dbx_jw *w, const char *key);
void dbx_jw_str(struct dbx_jw *w, const char *s); /* NULL writes null */
void dbx_jw_strn(struct dbx_jw *w, const char *s, size_t len);
void dbx_jw_i64(struct dbx_jw *w, int64_t v);
void dbx_jw_double(struct dbx_jw *w, double v);
void dbx_jw_bool(struct dbx_jw *w, bool v);
void dbx_jw_null(struct dbx_jw *w);
void dbx_jw_node(struct dbx_jw *w, const struct dbx_json *node); /* a parsed value, unchanged */
/* key and value in one call */
void dbx_jw_kstr(struct dbx_jw *w, const char *key, const char *s);
void dbx_jw_ki64(struct dbx_jw *w, const char *key, int64_t v);
void dbx_jw_kbool(struct dbx_jw *w, const char *key, bool v);

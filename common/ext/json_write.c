/* SPDX-License-Identifier: Apache-2.0 */
/* yajl_gen does the escaping. Nesting is checked here: it would close an array with a brace, or a
 * map behind a key without a value, and say nothing. UTF-8, too: its validation lets overlong forms
 * and surrogates pass, which our own parser then refuses. */
#include "common/base/str.h"
#include "common/ext/json_int.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#define MAX_DEPTH 120 /* yajl has 127 */

struct dbx_jw {
    yajl_gen gen;        /* owned */
    struct dbx_buf *out; /* borrowed */
    size_t start;        /* where in it the document begins */
    int code;            /* the first failure */
    unsigned depth;
    bool is_object[MAX_DEPTH];
    bool has_key; /* a key was written, its value was not */
    bool done;    /* the one value of the top level is there */
};

static void fail(struct dbx_jw *w, int code)
{
    if (w->code == 0)
        w->code = code;
}

static void on_print(void *user, const char *s, size_t len)
{
    struct dbx_jw *w = user;
    int r = w->code ? 0 : dbx_buf_append(w->out, s, len);
    if (r < 0)
        fail(w, r);
}

struct dbx_jw *dbx_jw_new(struct dbx_buf *out)
{
    struct dbx_jw *w = DBX_NEW(struct dbx_jw);
    w->out = out;
    w->start = out->len;
    w->gen = yajl_gen_alloc(NULL);
    dbx_assert(w->gen);
    dbx_assert(yajl_gen_config(w->gen, yajl_gen_print_callback, on_print, w));
    dbx_assert(yajl_gen_config(w->gen, yajl_gen_validate_utf8, 1));
    return w;
}

int dbx_jw_end(struct dbx_jw **wp)
{
    struct dbx_jw *w = DBX_TAKE(*wp);
    if (w->depth || !w->done)
        fail(w, -EPROTO);
    int r = w->code;
    if (r < 0 && w->out->data) {
        w->out->len = w->start;
        w->out->data[w->start] = 0;
    }
    yajl_gen_free(w->gen);
    free(w);
    return r;
}

/* Whether a value may stand here; notes that it does. */
static bool take_place(struct dbx_jw *w)
{
    bool ok = w->depth == 0 ? !w->done : !w->is_object[w->depth - 1] || w->has_key;
    if (!ok)
        fail(w, -EPROTO);
    w->has_key = false;
    w->done = true;
    return w->code == 0;
}

static void check(struct dbx_jw *w, yajl_gen_status status)
{
    if (status == yajl_gen_status_ok || (status == yajl_gen_generation_complete && w->depth == 0))
        return;
    fail(w, status == yajl_gen_invalid_string ? -EILSEQ : -EPROTO);
}

static void open_container(struct dbx_jw *w, bool object)
{
    if (!take_place(w))
        return;
    if (w->depth == MAX_DEPTH) {
        fail(w, -E2BIG);
        return;
    }
    w->is_object[w->depth++] = object;
    check(w, object ? yajl_gen_map_open(w->gen) : yajl_gen_array_open(w->gen));
}

static void close_container(struct dbx_jw *w, bool object)
{
    if (w->depth == 0 || w->is_object[w->depth - 1] != object || w->has_key)
        fail(w, -EPROTO);
    if (w->code)
        return;
    w->depth--;
    check(w, object ? yajl_gen_map_close(w->gen) : yajl_gen_array_close(w->gen));
}

void dbx_jw_object(struct dbx_jw *w)
{
    open_container(w, true);
}

void dbx_jw_object_end(struct dbx_jw *w)
{
    close_container(w, true);
}

void dbx_jw_array(struct dbx_jw *w)
{
    open_container(w, false);
}

void dbx_jw_array_end(struct dbx_jw *w)
{
    close_container(w, false);
}

static void put_text(struct dbx_jw *w, const char *s, size_t len)
{
    if (dbx_utf8_valid(s, len))
        check(w, yajl_gen_string(w->gen, (const unsigned char *)s, len));
    else
        fail(w, -EILSEQ);
}

void dbx_jw_key(struct dbx_jw *w, const char *key)
{
    if (w->depth == 0 || !w->is_object[w->depth - 1] || w->has_key)
        fail(w, -EPROTO);
    if (w->code)
        return;
    put_text(w, key, strlen(key));
    w->has_key = true;
}

void dbx_jw_strn(struct dbx_jw *w, const char *s, size_t len)
{
    if (take_place(w))
        put_text(w, s ? s : "", len);
}

void dbx_jw_str(struct dbx_jw *w, const char *s)
{
    if (s)
        dbx_jw_strn(w, s, strlen(s));
    else
        dbx_jw_null(w);
}

void dbx_jw_i64(struct dbx_jw *w, int64_t v)
{
    if (take_place(w))
        check(w, yajl_gen_integer(w->gen, v));
}

void dbx_json__print_double(double v, char out[static DBX_JSON__DOUBLE_SIZE])
{
    snprintf(out, DBX_JSON__DOUBLE_SIZE, "%.15g", v);
    if (strtod(out, NULL) != v)
        snprintf(out, DBX_JSON__DOUBLE_SIZE, "%.17g", v);
    if (!strpbrk(out, ".e")) { /* it is to come back as a double */
        size_t len = strlen(out);
        (void)dbx_strcpy(out + len, DBX_JSON__DOUBLE_SIZE - len, ".0");
    }
}

void dbx_jw_double(struct dbx_jw *w, double v)
{
    char text[DBX_JSON__DOUBLE_SIZE];
    if (!take_place(w))
        return;
    if (!isfinite(v)) {
        fail(w, -EDOM);
        return;
    }
    dbx_json__print_double(v, text);
    check(w, yajl_gen_number(w->gen, text, strlen(text)));
}

void dbx_jw_bool(struct dbx_jw *w, bool v)
{
    if (take_place(w))
        check(w, yajl_gen_bool(w->gen, v));
}

void dbx_jw_null(struct dbx_jw *w)
{
    if (take_place(w))
        check(w, yajl_gen_null(w->gen));
}

/* Writes a value; of a container only its beginning. Returns whether there are members to come. */
static bool write_one(struct dbx_jw *w, const struct dbx_json *node)
{
    switch (dbx_json_type(node)) {
    case DBX_JSON_NULL:
        dbx_jw_null(w);
        return false;
    case DBX_JSON_BOOL:
        dbx_jw_bool(w, node->u.b);
        return false;
    case DBX_JSON_INT:
        dbx_jw_i64(w, node->u.i);
        return false;
    case DBX_JSON_DOUBLE:
        dbx_jw_double(w, node->u.d);
        return false;
    case DBX_JSON_STRING:
        dbx_jw_strn(w, node->u.str.s, node->u.str.len);
        return false;
    case DBX_JSON_ARRAY:
    case DBX_JSON_OBJECT:
        open_container(w, node->type == DBX_JSON_OBJECT);
        return true;
    }
    return false;
}

void dbx_jw_node(struct dbx_jw *w, const struct dbx_json *node)
{
    struct {
        const struct dbx_json *node;
        size_t next;
    } stack[MAX_DEPTH];
    size_t depth = 0;
    if (write_one(w, node))
        stack[depth].node = node, stack[depth++].next = 0;
    while (depth && w->code == 0) {
        const struct dbx_json *many = stack[depth - 1].node;
        if (stack[depth - 1].next == many->u.many.count) {
            close_container(w, many->type == DBX_JSON_OBJECT);
            depth--;
            continue;
        }
        const struct dbx_json__member *m = &many->u.many.members[stack[depth - 1].next++];
        if (many->type == DBX_JSON_OBJECT)
            dbx_jw_key(w, m->key);
        if (write_one(w, &m->value) && w->code == 0) /* which is what bounds depth */
            stack[depth].node = &m->value, stack[depth++].next = 0;
    }
}

void dbx_jw_kstr(struct dbx_jw *w, const char *key, const char *s)
{
    dbx_jw_key(w, key);
    dbx_jw_str(w, s);
}

void dbx_jw_ki64(struct dbx_jw *w, const char *key, int64_t v)
{
    dbx_jw_key(w, key);
    dbx_jw_i64(w, v);
}

void dbx_jw_kbool(struct dbx_jw *w, const char *key, bool v)
{
    dbx_jw_key(w, key);
    dbx_jw_bool(w, v);
}

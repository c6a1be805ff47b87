/* SPDX-License-Identifier: Apache-2.0 */
/* From text to tree. yajl splits the text into events; what it is lax about is checked here: it
 * lets malformed UTF-8 of some kinds pass, turns lone surrogates into '?', knows no duplicate keys
 * and no limits.
 *
 * Nothing recurses. Values go onto one stack of members; when a container ends, those of its
 * members move into the arena in one piece, so that arrays index in O(1), and objects of more than
 * a few members are sorted by key, which finds duplicates and later makes lookups O(log n) whatever
 * keys a stranger chose. The arena is a list of blocks. */
#include "common/base/str.h"
#include "common/ext/json_int.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#define DEFAULT_DEPTH 32
#define DEFAULT_NODES 100000
#define FIRST_BLOCK 4096
#define MAX_BLOCK (256u << 10)
#define SORT_FROM 9 /* members; below, comparing each with each is as fast */
#define MAX_NUMBER_TEXT                                                                            \
    400 /* a double in full, without exponent, has 309 digits before the point */

struct block {
    struct block *next;
    size_t used, size;
    _Alignas(max_align_t) uint8_t data[];
};

struct dbx_json_doc {
    struct dbx_json root;
    struct block *blocks; /* owned */
};

struct frame {
    size_t start; /* of the container's members on the stack */
    enum dbx_json_type type;
};

struct parse {
    struct dbx_json_doc *doc; /* borrowed */
    struct dbx_json_limits limits;
    struct frame *frames; /* owned; limits.max_depth of them as needed */
    size_t depth, frames_cap;
    struct dbx_json__member *stack; /* owned */
    size_t count, cap;
    size_t nodes;
    const char *key; /* of the value that comes next, in the arena */
    size_t key_len;
    int code;      /* why a callback stopped the parse */
    char why[160]; /* in words */
};

/* --- the arena
 * ----------------------------------------------------------------------------------------------------
 */

static void *arena_alloc(struct dbx_json_doc *doc, size_t size)
{
    size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + align - 1) & ~(align - 1);
    struct block *b = doc->blocks;
    if (!b || b->size - b->used < size) {
        size_t want = b ? b->size * 2 : FIRST_BLOCK;
        if (want > MAX_BLOCK)
            want = MAX_BLOCK;
        if (want < size)
            want = size;
        b = malloc(sizeof(*b) + want);
        if (!b)
            return NULL;
        b->used = 0;
        b->size = want;
        b->next = doc->blocks;
        doc->blocks = b;
    }
    void *p = b->data + b->used;
    b->used += size;
    return p;
}

struct dbx_json_doc *dbx_json_doc_free(struct dbx_json_doc *doc)
{
    if (!doc)
        return NULL;
    while (doc->blocks) {
        struct block *b = doc->blocks;
        doc->blocks = b->next;
        free(b);
    }
    free(doc);
    return NULL;
}

void dbx_json_doc_freep(struct dbx_json_doc **doc)
{
    *doc = dbx_json_doc_free(*doc);
}

const struct dbx_json *dbx_json_root(const struct dbx_json_doc *doc)
{
    return &doc->root;
}

/* --- building
 * -----------------------------------------------------------------------------------------------------
 */

static int stop(struct parse *p, int code, const char *fmt, ...) DBX_PRINTF(3, 4);

/* Returns 0, which tells yajl to stop. */
static int stop(struct parse *p, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(p->why, sizeof(p->why), fmt, ap) < 0)
        p->why[0] = '\0';
    va_end(ap);
    p->code = code;
    return 0;
}

static int no_memory(struct parse *p)
{
    return stop(p, -ENOMEM, "out of memory");
}

static int push(struct parse *p, const struct dbx_json *value)
{
    if (++p->nodes > p->limits.max_nodes)
        return stop(p, -EINVAL, "more than %" PRIu32 " values", p->limits.max_nodes);
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 32;
        void *stack = realloc(p->stack, cap * sizeof(*p->stack));
        if (!stack)
            return no_memory(p);
        p->stack = stack;
        p->cap = cap;
    }
    p->stack[p->count++] = (struct dbx_json__member){p->key, p->key_len, *value};
    p->key = NULL;
    p->key_len = 0;
    return 1;
}

static const char *copy_text(struct parse *p, const void *text, size_t len)
{
    char *copy = len < SIZE_MAX ? arena_alloc(p->doc, len + 1) : NULL;
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

static int on_null(void *user)
{
    return push(user, &(struct dbx_json){.type = DBX_JSON_NULL});
}

static int on_bool(void *user, int v)
{
    return push(user, &(struct dbx_json){.type = DBX_JSON_BOOL, .u.b = v != 0});
}

static int on_number(void *user, const char *text, size_t len)
{
    struct parse *p = user;
    struct dbx_json node = {.type = DBX_JSON_INT};
    char copy[MAX_NUMBER_TEXT + 1];
    if (len > MAX_NUMBER_TEXT)
        return stop(p, -EINVAL, "number of more than %d characters", MAX_NUMBER_TEXT);
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (!strpbrk(copy, ".eE")) {
        if (dbx_parse_i64(copy, len, INT64_MIN, INT64_MAX, &node.u.i) < 0)
            return stop(p, -EINVAL, "integer out of range");
        return push(p, &node);
    }
    char *end;
    node.type = DBX_JSON_DOUBLE;
    node.u.d = strtod(copy, &end);
    if (*end || !isfinite(node.u.d))
        return stop(p, -EINVAL, "number out of range");
    return push(p, &node);
}

static int on_string(void *user, const unsigned char *text, size_t len)
{
    struct parse *p = user;
    struct dbx_json node = {.type = DBX_JSON_STRING, .has_nul = len && memchr(text, 0, len)};
    node.u.str.s = copy_text(p, text, len);
    node.u.str.len = len;
    return node.u.str.s ? push(p, &node) : no_memory(p);
}

static int on_key(void *user, const unsigned char *text, size_t len)
{
    struct parse *p = user;
    if (len && memchr(text, 0, len))
        return stop(p, -EINVAL, "NUL in a key");
    p->key = copy_text(p, text, len);
    p->key_len = len;
    return p->key ? 1 : no_memory(p);
}

/* The container itself goes onto the stack at once (with its key), and its members above it. */
static int begin(struct parse *p, enum dbx_json_type type)
{
    if (p->depth == p->limits.max_depth)
        return stop(p, -EINVAL, "nested deeper than %" PRIu32, p->limits.max_depth);
    if (p->depth == p->frames_cap) {
        size_t cap = p->frames_cap ? p->frames_cap * 2 : 16;
        void *frames = realloc(p->frames, cap * sizeof(*p->frames));
        if (!frames)
            return no_memory(p);
        p->frames = frames;
        p->frames_cap = cap;
    }
    if (!push(p, &(struct dbx_json){.type = type}))
        return 0;
    p->frames[p->depth++] = (struct frame){.start = p->count, .type = type};
    return 1;
}

static int on_map(void *user)
{
    return begin(user, DBX_JSON_OBJECT);
}

static int on_array(void *user)
{
    return begin(user, DBX_JSON_ARRAY);
}

static int compare_keys(const char *a, size_t alen, const char *b, size_t blen)
{
    if (alen != blen)
        return alen < blen ? -1 : 1;
    return memcmp(a, b, alen);
}

static int compare_order(const void *a, const void *b, void *user)
{
    const struct dbx_json__member *members = user;
    const struct dbx_json__member *x = &members[*(const uint32_t *)a],
                                  *y = &members[*(const uint32_t *)b];
    return compare_keys(x->key, x->key_len, y->key, y->key_len);
}

static int duplicate(struct parse *p, const char *key)
{
    return stop(p, -EINVAL, "duplicate key '%.64s'", key);
}

static int check_small(struct parse *p, const struct dbx_json__member *members, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (compare_keys(members[i].key, members[i].key_len, members[k].key,
                             members[k].key_len) == 0)
                return duplicate(p, members[i].key);
    return 1;
}

static int sort_members(struct parse *p, struct dbx_json__member *members, uint32_t n,
                        const uint32_t **ret)
{
    uint32_t *order = arena_alloc(p->doc, n * sizeof(*order));
    if (!order)
        return no_memory(p);
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof(*order), compare_order, members);
    for (uint32_t i = 1; i < n; i++)
        if (compare_order(&order[i - 1], &order[i], members) == 0)
            return duplicate(p, members[order[i]].key);
    *ret = order;
    return 1;
}

static int on_end(void *user)
{
    struct parse *p = user;
    dbx_assert(p->depth > 0);
    const struct frame *fr = &p->frames[--p->depth];
    size_t n = p->count - fr->start;
    struct dbx_json *node = &p->stack[fr->start - 1].value;
    node->u.many.count = (uint32_t)n; /* max_nodes is a uint32_t, too */
    if (n == 0)
        return 1;
    struct dbx_json__member *members = arena_alloc(p->doc, n * sizeof(*members));
    if (!members)
        return no_memory(p);
    memcpy(members, &p->stack[fr->start], n * sizeof(*members));
    p->count = fr->start;
    node->u.many.members = members;
    if (fr->type != DBX_JSON_OBJECT)
        return 1;
    if (n < SORT_FROM)
        return check_small(p, members, n);
    return sort_members(p, members, (uint32_t)n, &node->u.many.order);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_map,
    .yajl_map_key = on_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_array,
    .yajl_end_array = on_end,
};

/* --- the whole
 * ----------------------------------------------------------------------------------------------------
 */

/* yajl does not look at what malloc gives. Its own blocks are small, but for a copy of the longest
 * string with escapes. */
static void *yj_malloc(void *user, size_t size)
{
    (void)user;
    return dbx_malloc(size);
}

static void *yj_realloc(void *user, void *p, size_t size)
{
    (void)user;
    return dbx_realloc(p, size);
}

static void yj_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static int fail(struct dbx_err *err, int code, size_t at, const char *why)
{
    return dbx_err_set(err, code, code == -ENOMEM ? DBX_LIMIT : DBX_INVALID, "JSON: %s at byte %zu",
                       why, at);
}

/* \uXXXX at s[0], or -1. */
static int32_t unicode_escape(const char *s, size_t len)
{
    uint8_t raw[2];
    if (len < 6 || s[0] != '\\' || s[1] != 'u' || dbx_hex_decode(s + 2, 4, raw) < 0)
        return -1;
    return raw[0] << 8 | raw[1];
}

/* In a well-formed text, backslashes are in strings only; in others yajl will complain. */
static int check_surrogates(const char *text, size_t len, struct dbx_err *err)
{
    const char *end = text + len, *s = text;
    while (s < end && (s = memchr(s, '\\', (size_t)(end - s)))) {
        int32_t unit = unicode_escape(s, (size_t)(end - s));
        if (unit < 0xd800 || unit > 0xdfff) {
            s += unit < 0 ? 2 : 6;
            continue;
        }
        int32_t next = unicode_escape(s + 6, (size_t)(end - s) - 6);
        if (unit > 0xdbff || next < 0xdc00 || next > 0xdfff)
            return fail(err, -EINVAL, (size_t)(s - text), "lone surrogate");
        s += 12;
    }
    return 0;
}

static int fail_yajl(yajl_handle yh, const struct parse *p, size_t at, struct dbx_err *err)
{
    if (p->code)
        return fail(err, p->code, at, p->why);
    unsigned char *text = yajl_get_error(yh, /* verbose= */ 0, NULL, 0);
    char why[160];
    (void)dbx_strcpy(why, sizeof(why), text ? (const char *)text : "parse error");
    why[strcspn(why, "\n")] = '\0';
    if (text)
        yajl_free_error(yh, text);
    return fail(err, -EINVAL, at, why);
}

static int run(struct parse *p, const void *data, size_t len, struct dbx_err *err)
{
    yajl_alloc_funcs funcs = {yj_malloc, yj_realloc, yj_free, NULL};
    yajl_handle yh = yajl_alloc(&callbacks, &funcs, p);
    dbx_assert(yh);
    int r = 0;
    if (yajl_parse(yh, data, len) != yajl_status_ok)
        r = fail_yajl(yh, p, yajl_get_bytes_consumed(yh), err);
    else if (yajl_complete_parse(yh) != yajl_status_ok)
        r = fail_yajl(yh, p, len, err);
    yajl_free(yh);
    return r;
}

int dbx_json_parse(const void *data, size_t len, const struct dbx_json_limits *limits,
                   struct dbx_json_doc **ret, struct dbx_err *err)
{
    struct parse p = {.limits = {DEFAULT_DEPTH, DEFAULT_NODES}};
    if (limits && limits->max_depth)
        p.limits.max_depth = limits->max_depth;
    if (limits && limits->max_nodes)
        p.limits.max_nodes = limits->max_nodes;
    if (len == 0)
        return fail(err, -EINVAL, 0, "empty document");

    bool incomplete;
    size_t good = dbx_utf8_prefix(data, len, &incomplete);
    if (good < len)
        return fail(err, -EINVAL, good, "invalid UTF-8");
    int r = check_surrogates(data, len, err);
    if (r < 0)
        return r;

    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = DBX_NEW(struct dbx_json_doc);
    p.doc = doc;
    r = run(&p, data, len, err);
    if (r == 0) {
        dbx_assert(p.count == 1 && p.depth == 0);
        doc->root = p.stack[0].value;
        *ret = DBX_TAKE(doc);
    }
    free(p.stack);
    free(p.frames);
    return r;
}

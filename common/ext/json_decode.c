/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "common/ext/json_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const type_words[] = {
    [DBX_JSON_NULL] = "anything",    [DBX_JSON_BOOL] = "true or false",
    [DBX_JSON_INT] = "an integer",   [DBX_JSON_DOUBLE] = "a number",
    [DBX_JSON_STRING] = "a string",  [DBX_JSON_ARRAY] = "an array",
    [DBX_JSON_OBJECT] = "an object",
};

struct where {
    char text[sizeof(((struct dbx_err *)0)->field)];
};

static struct where name_of(const char *prefix, const char *name)
{
    struct where w;
    int n = snprintf(w.text, sizeof(w.text), "%s%s", prefix, name);
    if (n < 0)
        w.text[0] = '\0';
    return w;
}

static bool type_fits(enum dbx_json_type want, enum dbx_json_type have)
{
    return want == have || want == DBX_JSON_NULL ||
           (want == DBX_JSON_DOUBLE && have == DBX_JSON_INT);
}

static int check_range(const struct dbx_json_field *f, int64_t v, const char *what,
                       const char *where, struct dbx_err *err)
{
    if ((f->min == 0 && f->max == 0) || (v >= f->min && v <= f->max))
        return 0;
    return dbx_err_field(err, where, "must%s be between %" PRId64 " and %" PRId64, what, f->min,
                         f->max);
}

static int check_value(const struct dbx_json_field *f, const struct dbx_json *v, const char *where,
                       struct dbx_err *err)
{
    switch (v->type) {
    case DBX_JSON_INT:
        return f->type == DBX_JSON_INT ? check_range(f, v->u.i, "", where, err) : 0;
    case DBX_JSON_STRING:
        if (v->has_nul && !f->allow_nul && f->type == DBX_JSON_STRING)
            return dbx_err_field(err, where, "must not contain NUL");
        return f->type == DBX_JSON_STRING
                   ? check_range(f, (int64_t)v->u.str.len, " in bytes", where, err)
                   : 0;
    case DBX_JSON_ARRAY:
        return f->type == DBX_JSON_ARRAY
                   ? check_range(f, v->u.many.count, " in number of items", where, err)
                   : 0;
    case DBX_JSON_NULL:
    case DBX_JSON_BOOL:
    case DBX_JSON_DOUBLE:
    case DBX_JSON_OBJECT:
        return 0;
    }
    return 0;
}

static void store(const struct dbx_json_field *f, const struct dbx_json *v, void *target)
{
    void *place = (char *)target + f->offset;
    if (f->type == DBX_JSON_INT)
        *(int64_t *)place = v->u.i;
    else if (f->type == DBX_JSON_BOOL)
        *(bool *)place = v->u.b;
    else if (f->type == DBX_JSON_STRING && !f->allow_nul)
        *(const char **)place = v->u.str.s;
    else
        *(const struct dbx_json **)place = v;
}

static const struct dbx_json_field *find(const struct dbx_json_field *fields, size_t n,
                                         const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

static int decode_one(const struct dbx_json_field *f, const struct dbx_json *v, void *target,
                      const char *where, struct dbx_err *err)
{
    if (v->type == DBX_JSON_NULL && f->flags & DBX_JSON_NULLABLE)
        return 0;
    if (!type_fits(f->type, v->type))
        return dbx_err_field(err, where, "must be %s", type_words[f->type]);
    int r = check_value(f, v, where, err);
    if (r == 0)
        store(f, v, target);
    return r;
}

static int not_an_object(const char *prefix, struct dbx_err *err)
{
    struct where w = name_of(prefix, "");
    size_t len = strlen(w.text);
    if (len && w.text[len - 1] == '.')
        w.text[len - 1] = '\0';
    return dbx_err_field(err, w.text, "%s must be an object", len ? "it" : "the body");
}

int dbx_json_decode(const struct dbx_json *object, const struct dbx_json_field *fields, size_t n,
                    void *target, const char *prefix, struct dbx_err *err)
{
    if (dbx_json_type(object) != DBX_JSON_OBJECT)
        return not_an_object(prefix, err);
    const struct dbx_json *v;
    const char *key;
    for (size_t i = 0; (key = dbx_json_key(object, i, &v)); i++) {
        const struct dbx_json_field *f = find(fields, n, key);
        struct where w = name_of(prefix, key);
        if (!f)
            return dbx_err_field(err, w.text, "is not known here");
        int r = decode_one(f, v, target, w.text, err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].flags & DBX_JSON_REQUIRED && !dbx_json_get(object, fields[i].name))
            return dbx_err_field(err, name_of(prefix, fields[i].name).text, "is missing");
    return 0;
}

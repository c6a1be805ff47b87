/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/templates.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "gateway/executions.h"
#include "gateway/gw.h"
#include "gateway/request.h"

#define MAX_TEMPLATES 64
#define MAX_TEMPLATE_FILE (64u << 10)
#define MAX_EXTENSIONS 16

struct template
{
    char name[65], title[129], entry[129];
    char extensions[MAX_EXTENSIONS][17]; /* the first is the usual one; "" behind the last */
    int64_t order;
    bool compiled;
};

struct gw_templates {
    size_t n;
    struct template all[MAX_TEMPLATES]; /* by order, then name */
};

static int decode(const struct dbx_json *root, struct template *tp, struct dbx_err *err)
{
    const char *name = dbx_json_get_str(root, "name"), *title = dbx_json_get_str(root, "title");
    const struct dbx_json *entry = dbx_json_at(dbx_json_get(root, "entries"), 0);
    const char *file = dbx_json_get_str(entry, "file");
    if (!name || !*name || !dbx_strcpy(tp->name, sizeof(tp->name), name))
        return dbx_err_field(err, "name", "must be a short string");
    (void)dbx_strcpy(tp->title, sizeof(tp->title), title ? title : name);
    (void)dbx_strcpy(tp->entry, sizeof(tp->entry), file ? file : "");
    const struct dbx_json *extensions = dbx_json_get(root, "extensions");
    for (size_t i = 0; i < MAX_EXTENSIONS && i < dbx_json_count(extensions); i++) {
        const char *one = dbx_json_str(dbx_json_at(extensions, i), NULL);
        if (!one || !*one || !dbx_strcpy(tp->extensions[i], sizeof(tp->extensions[i]), one))
            return dbx_err_field(err, "extensions", "must be short strings");
    }
    tp->order = dbx_json_get_i64(root, "order", INT64_MAX);
    tp->compiled = dbx_json_type(dbx_json_get(entry, "compile")) == DBX_JSON_ARRAY;
    return 0;
}

static int load_one(const char *path, struct template *tp, struct dbx_err *err)
{
    struct dbx_buf buf;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    int r = dbx_fs_read(path, MAX_TEMPLATE_FILE, &buf, err);
    if (r == 0)
        r = dbx_json_parse(buf.data, buf.len, NULL, &doc, err);
    dbx_buf_done(&buf);
    return r < 0 ? r : decode(dbx_json_root(doc), tp, err);
}

static int by_order(const void *a, const void *b)
{
    const struct template *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int load_all(DIR *dir, const char *path, struct gw_templates *ts, struct dbx_err *err)
{
    struct dirent *de;
    while ((de = readdir(dir))) {
        size_t len = strlen(de->d_name);
        if (len <= 5 || strcmp(de->d_name + len - 5, ".json") != 0 || de->d_name[0] == '.')
            continue;
        if (ts->n == MAX_TEMPLATES)
            return dbx_err_set(err, -E2BIG, DBX_LIMIT, "more than %d templates", MAX_TEMPLATES);
        DBX_CLEANUP(dbx_freep) char *file = dbx_asprintf("%s/%s", path, de->d_name);
        int r = load_one(file, &ts->all[ts->n], err);
        if (r < 0)
            return dbx_err_wrap(err, r, "template %s", de->d_name);
        ts->n++;
    }
    if (ts->n == 0)
        return dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "no template in '%s'", path);
    qsort(ts->all, ts->n, sizeof(ts->all[0]), by_order);
    return 0;
}

int gw_templates_load(const char *path, struct gw_templates **ret, struct dbx_err *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return dbx_err_sys(err, "open the templates '%s'", path);
    struct gw_templates *ts = DBX_NEW(struct gw_templates);
    int r = load_all(dir, path, ts, err);
    closedir(dir);
    if (r < 0)
        free(ts);
    else
        *ret = ts;
    return r;
}

struct gw_templates *gw_templates_free(struct gw_templates *ts)
{
    free(ts);
    return NULL;
}

bool gw_templates_has(const struct gw_templates *ts, const char *name)
{
    for (size_t i = 0; i < ts->n; i++)
        if (dbx_streq(ts->all[i].name, name))
            return true;
    return false;
}

void gw_templates_list(struct gw_req *rq)
{
    const struct gw_templates *ts = rq->gw->templates;
    struct dbx_buf buf;
    dbx_buf_init(&buf, 1u << 20);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_key(w, "items");
    dbx_jw_array(w);
    for (size_t i = 0; i < ts->n; i++) {
        dbx_jw_object(w);
        dbx_jw_kstr(w, "name", ts->all[i].name);
        dbx_jw_kstr(w, "title", ts->all[i].title);
        dbx_jw_kstr(w, "entry", ts->all[i].entry[0] ? ts->all[i].entry : NULL);
        dbx_jw_key(w, "extensions");
        dbx_jw_array(w);
        for (size_t k = 0; k < MAX_EXTENSIONS && ts->all[i].extensions[k][0]; k++)
            dbx_jw_str(w, ts->all[i].extensions[k]);
        dbx_jw_array_end(w);
        dbx_jw_kbool(w, "compiled", ts->all[i].compiled);
        dbx_jw_object_end(w);
    }
    dbx_jw_array_end(w);
    dbx_jw_kstr(w, "next_cursor", NULL);
    dbx_jw_object_end(w);
    gw_answer_json(rq, 200, &buf, &w);
}

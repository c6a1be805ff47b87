/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/batch_body.h"

#include <errno.h>
#include <string.h>

#include "common/ext/json.h"

#define MAX_NODES 2000000u

static const struct dbx_json_limits limits = {.max_nodes = MAX_NODES};

static int add_fields(const struct cli_batch_fields *f, struct dbx_buf *out)
{
    struct dbx_buf head;
    dbx_buf_init(&head, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&head);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "template", f->template);
    if (f->isolation)
        dbx_jw_kstr(w, "isolation", f->isolation);
    if (f->retry)
        dbx_jw_kstr(w, "retry", f->retry);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    if (r == 0) /* it goes on */
        r = dbx_buf_append(out, head.data, head.len - 1);
    dbx_buf_done(&head);
    return r == 0 ? dbx_buf_str(out, ",\"executions\":[") : r;
}

static int add_line(const char *line, size_t len, size_t number, bool first, struct dbx_buf *out,
                    struct dbx_err *err)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err why = {0};
    if (dbx_json_parse(line, len, &limits, &doc, &why) < 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "line %zu: %.180s", number, why.msg);
    if (dbx_json_type(dbx_json_root(doc)) != DBX_JSON_OBJECT)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "line %zu is not an object", number);
    int r = first ? 0 : dbx_buf_str(out, ",");
    if (r == 0)
        r = dbx_buf_append(out, line, len);
    return r < 0 ? dbx_err_set(err, r, DBX_LIMIT, "more than %u bytes", CLI_BATCH_MAX) : 0;
}

static bool blank(const char *line, size_t len)
{
    return strspn(line, " \t\r\n") >= len;
}

static int lines(const char *data, size_t len, const struct cli_batch_fields *f,
                 struct dbx_buf *out, struct dbx_err *err)
{
    size_t number = 0, count = 0;
    if (!f->template)
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "no body of a batch; of executions line by line, --template says what "
                           "they are");
    int r = add_fields(f, out);
    for (const char *at = data, *end = data + len; r == 0 && at < end;) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((nl ? nl : end) - at);
        number++;
        if (!blank(at, n))
            r = add_line(at, n, number, count++ == 0, out, err);
        at += n + 1;
    }
    return r < 0 ? r : dbx_buf_str(out, "]}");
}

int cli_batch_body(const char *data, size_t len, const struct cli_batch_fields *f,
                   struct dbx_buf *out, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err ignored = {0};
    if (dbx_json_parse(data, len, &limits, &doc, &ignored) < 0 ||
        !dbx_json_get(dbx_json_root(doc), "executions"))
        return lines(data, len, f, out, err);
    if (f->template || f->isolation || f->retry)
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "the file says template, isolation and retry");
    return dbx_buf_append(out, data, len);
}

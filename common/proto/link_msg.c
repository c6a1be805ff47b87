/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "common/proto/link_int.h"
#include <errno.h>
#include <string.h>

static const struct dbx_json_limits header_limits = {.max_depth = 32, .max_nodes = 500000};

static int read_header(struct dbx_link__decoded *d, struct dbx_err *err)
{
    const struct dbx_json *h = dbx_json_root(d->doc);
    const char *op = dbx_json_get_str(h, "op");

    if (dbx_json_type(h) != DBX_JSON_OBJECT)
        return dbx_err_set(err, -EBADMSG, DBX_INVALID, "the header is not an object");
    d->re = dbx_json_get_i64(h, "re", 0);
    d->msg.header = h;
    d->msg.op = op ? op : "";
    d->msg.rid = dbx_json_get_i64(h, "rid", 0);
    if (d->re < 0 || d->msg.rid < 0 || (d->re > 0) == (d->msg.op[0] != '\0'))
        return dbx_err_set(err, -EBADMSG, DBX_INVALID, "neither a request nor an answer");
    return 0;
}

int dbx_link__decode(const uint8_t *data, size_t len, struct dbx_link__decoded *ret,
                     struct dbx_err *err)
{
    struct dbx_reader rd = {.p = data, .left = len};
    struct dbx_link__decoded d = {0};
    uint32_t header_len = dbx_rd_u32(&rd);
    const uint8_t *header = dbx_rd_bytes(&rd, header_len);

    if (rd.bad || header_len > DBX_LINK_MAX_HEADER)
        return dbx_err_set(err, -EBADMSG, DBX_INVALID, "malformed message");
    d.msg.blob = rd.p;
    d.msg.blob_len = rd.left;
    int r = dbx_json_parse(header, header_len, &header_limits, &d.doc, err);
    if (r < 0)
        return r;
    r = read_header(&d, err);
    if (r < 0)
        dbx_link__decoded_done(&d);
    else
        *ret = d;
    return r;
}

void dbx_link__decoded_done(struct dbx_link__decoded *d)
{
    d->doc = dbx_json_doc_free(d->doc);
}

void dbx_link__answer_error(const struct dbx_json *header, struct dbx_err *ret)
{
    const struct dbx_json *error = dbx_json_get(header, "error");
    const char *message = dbx_json_get_str(error, "message"), *kind, *field;

    *ret = (struct dbx_err){0};
    if (dbx_json_get_bool(header, "ok", false) && dbx_json_type(error) == DBX_JSON_NULL)
        return;
    kind = dbx_json_get_str(error, "kind");
    field = dbx_json_get_str(error, "field");
    (void)dbx_err_set(ret, -EREMOTEIO, DBX_INTERNAL, "%s", message ? message : "malformed answer");
    if (kind)
        ret->kind = dbx_kind_parse(kind);
    if (ret->kind == DBX_OK)
        ret->kind = DBX_INTERNAL;
    if (field)
        (void)dbx_strcpy(ret->field, sizeof(ret->field), field);
}

static void write_error(struct dbx_jw *w, const struct dbx_err *err)
{
    dbx_jw_key(w, "error");
    dbx_jw_object(w);
    dbx_jw_kstr(w, "kind", dbx_kind_name(err->kind));
    dbx_jw_kstr(w, "field", err->field[0] ? err->field : NULL);
    dbx_jw_kstr(w, "message", dbx_utf8_valid(err->msg, strlen(err->msg)) ? err->msg : "(not text)");
    dbx_jw_object_end(w);
}

int dbx_link__encode(struct dbx_buf *out, const struct dbx_link__head *head)
{
    size_t start = out->len;
    int r = dbx_buf_u32(out, 0);
    struct dbx_jw *w;

    if (r < 0)
        return r;
    w = dbx_jw_new(out);
    dbx_jw_object(w);
    if (head->op)
        dbx_jw_kstr(w, "op", head->op);
    if (head->rid > 0)
        dbx_jw_ki64(w, "rid", head->rid);
    if (head->re > 0)
        dbx_jw_ki64(w, "re", head->re);
    if (head->error)
        write_error(w, head->error);
    else if (head->re > 0)
        dbx_jw_kbool(w, "ok", true);
    if (head->fill)
        head->fill(w, head->arg);
    dbx_jw_object_end(w);
    r = dbx_jw_end(&w);
    if (r < 0)
        return r;
    size_t len = out->len - start - 4;
    for (int i = 0; i < 4; i++)
        out->data[start + i] = (uint8_t)(len >> (8 * i));
    return 0;
}

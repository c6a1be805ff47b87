/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

struct raw {
    const char *type, *process, *last_seen_id, *encoding;
    const struct dbx_json *data;
    int64_t cols, rows, bytes, seq;
};

#define TYPE_AND_PROCESS                                                                           \
    {.name = "type", .type = DBX_JSON_STRING, .offset = offsetof(struct raw, type)},               \
    {                                                                                              \
        .name = "process_id", .type = DBX_JSON_STRING, .offset = offsetof(struct raw, process),    \
        .flags = DBX_JSON_REQUIRED                                                                 \
    }

static const struct dbx_json_field plain_fields[] = {TYPE_AND_PROCESS};
static const struct dbx_json_field resume_fields[] = {
    TYPE_AND_PROCESS,
    {.name = "last_seen_id",
     .type = DBX_JSON_STRING,
     .offset = offsetof(struct raw, last_seen_id),
     .flags = DBX_JSON_REQUIRED,
     .max = 128},
};
static const struct dbx_json_field input_fields[] = {
    TYPE_AND_PROCESS,
    {.name = "data",
     .type = DBX_JSON_STRING,
     .offset = offsetof(struct raw, data),
     .flags = DBX_JSON_REQUIRED,
     .allow_nul = true},
    {.name = "encoding", .type = DBX_JSON_STRING, .offset = offsetof(struct raw, encoding)},
    {.name = "seq",
     .type = DBX_JSON_INT,
     .offset = offsetof(struct raw, seq),
     .min = 0,
     .max = INT64_MAX},
};
static const struct dbx_json_field resize_fields[] = {
    TYPE_AND_PROCESS,
    {.name = "cols",
     .type = DBX_JSON_INT,
     .offset = offsetof(struct raw, cols),
     .flags = DBX_JSON_REQUIRED,
     .min = 1,
     .max = 1000},
    {.name = "rows",
     .type = DBX_JSON_INT,
     .offset = offsetof(struct raw, rows),
     .flags = DBX_JSON_REQUIRED,
     .min = 1,
     .max = 1000},
};
static const struct dbx_json_field ack_fields[] = {
    TYPE_AND_PROCESS,
    {.name = "bytes",
     .type = DBX_JSON_INT,
     .offset = offsetof(struct raw, bytes),
     .flags = DBX_JSON_REQUIRED,
     .min = 0,
     .max = INT64_MAX},
};

#define FIELDS(a) .fields = (a), .n = DBX_ARRAY_LEN(a)
static const struct kind {
    const char *name;
    const struct dbx_json_field *fields;
    size_t n;
} kinds[] = {
    [GW_MSG_RESUME] = {"resume", FIELDS(resume_fields)},
    [GW_MSG_INPUT] = {"input", FIELDS(input_fields)},
    [GW_MSG_EOF] = {"eof", FIELDS(plain_fields)},
    [GW_MSG_CANCEL] = {"cancel", FIELDS(plain_fields)},
    [GW_MSG_RESIZE] = {"resize", FIELDS(resize_fields)},
    [GW_MSG_ACK] = {"ack", FIELDS(ack_fields)},
};

static int input_bytes(const struct raw *raw, struct gw_message *m, struct dbx_err *err)
{
    const char *text = dbx_json_str(raw->data, &m->len);
    m->data = text;
    if (raw->encoding) {
        if (!dbx_streq(raw->encoding, "base64"))
            return dbx_err_field(err, "encoding", "must be \"base64\" or absent");
        m->bytes = dbx_malloc(m->len / 4 * 3 + 3);
        m->data = m->bytes;
        if (dbx_base64_decode(text, m->len, m->bytes, &m->len, false) < 0)
            return dbx_err_field(err, "data", "is not base64");
    }
    if (m->len > GW_MAX_INPUT)
        return dbx_err_field(err, "data", "more than %u bytes", GW_MAX_INPUT);
    return 0;
}

static int decode(const struct dbx_json *root, struct gw_message *m, struct dbx_err *err)
{
    const char *type = dbx_json_get_str(root, "type");
    size_t k = 0;
    if (!type)
        return dbx_err_field(err, "type", "is missing");
    while (k < DBX_ARRAY_LEN(kinds) && !dbx_streq(kinds[k].name, type))
        k++;
    if (k == DBX_ARRAY_LEN(kinds))
        return dbx_err_set(err, -ENOSYS, DBX_INVALID, "unknown type '%.40s'", type);
    struct raw raw = {.seq = -1};
    int r = dbx_json_decode(root, kinds[k].fields, kinds[k].n, &raw, "", err);
    if (r < 0)
        return r;
    m->type = (enum gw_message_type)k;
    m->last_seen_id = raw.last_seen_id;
    m->cols = raw.cols;
    m->rows = raw.rows;
    m->acked = raw.bytes;
    m->seq = raw.seq;
    if (dbx_id_parse(raw.process, &m->process) < 0)
        return dbx_err_field(err, "process_id", "is not an id");
    return m->type == GW_MSG_INPUT ? input_bytes(&raw, m, err) : 0;
}

int gw_message_decode(const void *text, size_t len, struct gw_message *ret, struct dbx_err *err)
{
    struct gw_message m = {0};
    const struct dbx_json_limits limits = {.max_depth = 4, .max_nodes = 64};
    if (dbx_json_parse(text, len, &limits, &m.doc, err) < 0)
        return -EBADMSG;
    const struct dbx_json *root = dbx_json_root(m.doc);
    int r = dbx_json_type(root) == DBX_JSON_OBJECT
                ? decode(root, &m, err)
                : dbx_err_set(err, -EBADMSG, DBX_INVALID, "not an object");
    if (r < 0) {
        gw_message_done(&m);
        return r == -ENOSYS || r == -EBADMSG ? r : -EINVAL;
    }
    *ret = m;
    return 0;
}

void gw_message_done(struct gw_message *m)
{
    m->doc = dbx_json_doc_free(m->doc);
    free(DBX_TAKE(m->bytes));
}

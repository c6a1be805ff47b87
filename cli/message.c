/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

#define MAX_ID 256 /* a longer one could not be sent back in a URL */

static int bad(struct dbx_err *err, const char *what)
{
    return dbx_err_set(err, -EBADMSG, DBX_INTERNAL, "the gateway sent %s", what);
}

static int read_stream(const struct dbx_json *root, struct cli_msg *m, struct dbx_err *err)
{
    const char *stream = dbx_json_get_str(root, "stream");
    m->is_stderr = dbx_streq(stream, "stderr");
    if (!m->is_stderr && !dbx_streq(stream, "stdout") && !dbx_streq(stream, "pty"))
        return bad(err, "output of an unknown stream");
    return 0;
}

static int read_output(const struct dbx_json *root, struct cli_msg *m, struct dbx_err *err)
{
    const char *text = dbx_json_str(dbx_json_get(root, "data"), &m->len);
    const char *encoding = dbx_json_get_str(root, "encoding");
    int r = read_stream(root, m, err);
    if (r < 0)
        return r;
    if (!text)
        return bad(err, "output without data");
    m->data = text;
    if (!encoding)
        return 0;
    if (!dbx_streq(encoding, "base64"))
        return bad(err, "output in an unknown encoding");
    m->bytes = dbx_malloc(m->len / 4 * 3 + 3);
    m->data = m->bytes;
    if (dbx_base64_decode(text, m->len, m->bytes, &m->len, false) < 0)
        return bad(err, "output that is not base64");
    return 0;
}

static int read_gap(const struct dbx_json *root, struct cli_msg *m, struct dbx_err *err)
{
    m->from = dbx_json_get_i64(root, "from", -1);
    m->to = dbx_json_get_i64(root, "to", -1);
    if (m->from < 0 || m->to < m->from)
        return bad(err, "a gap without bounds");
    return read_stream(root, m, err);
}

static void read_status(const struct dbx_json *root, struct cli_msg *m)
{
    const char *status = dbx_json_get_str(root, "status");
    m->ended = dbx_streq(status, "completed") || dbx_streq(status, "failed") ||
               dbx_streq(status, "cancelled");
    m->running = dbx_streq(status, "running");
    m->verdict = dbx_json_get_str(root, "verdict");
    m->signal = dbx_json_get_str(root, "signal");
    m->exit_code = dbx_json_get_i64(root, "exit_code", -1);
}

static void read_error(const struct dbx_json *root, struct cli_msg *m)
{
    const char *code = dbx_json_get_str(root, "code"), *text = dbx_json_get_str(root, "message");
    m->code = code ? code : "unknown";
    m->message = text ? text : m->code;
}

static int read_message(const struct dbx_json *root, const char *process_id, struct cli_msg *m,
                        struct dbx_err *err)
{
    const char *type = dbx_json_get_str(root, "type");
    const char *process = dbx_json_get_str(root, "process_id");
    if (!type)
        return bad(err, "a message without a type");
    if (process && !dbx_streq(process, process_id))
        return 0;
    m->compile = dbx_streq(dbx_json_get_str(root, "phase"), "compile");
    if (dbx_streq(type, "error")) {
        m->type = CLI_MSG_ERROR;
        read_error(root, m);
        return 0;
    }
    if (dbx_streq(type, "log")) {
        m->type = CLI_MSG_LOG;
        if (dbx_streq(dbx_json_get_str(root, "status"), "away"))
            m->message = dbx_json_get_str(root, "message");
        return 0;
    }
    if (!process)
        return 0;
    m->id = dbx_json_get_str(root, "id");
    if (m->id && strnlen(m->id, MAX_ID + 1) > MAX_ID)
        return bad(err, "an id that is too long");
    if (dbx_streq(type, "output")) {
        m->type = CLI_MSG_OUTPUT;
        return read_output(root, m, err);
    }
    if (dbx_streq(type, "gap")) {
        m->type = CLI_MSG_GAP;
        return read_gap(root, m, err);
    }
    if (dbx_streq(type, "input_taken")) {
        m->type = CLI_MSG_INPUT_TAKEN;
        m->seq = dbx_json_get_i64(root, "seq", -1);
    }
    if (dbx_streq(type, "status")) {
        m->type = CLI_MSG_STATUS;
        read_status(root, m);
    }
    return 0;
}

int cli_msg_parse(const void *text, size_t len, const char *process_id, struct cli_msg *ret,
                  struct dbx_err *err)
{
    struct cli_msg m = {.exit_code = -1};
    const struct dbx_json_limits limits = {.max_depth = 8, .max_nodes = 1024};
    int r = dbx_json_parse(text, len, &limits, &m.doc, err);
    if (r < 0)
        return bad(err, "something that is not JSON");
    const struct dbx_json *root = dbx_json_root(m.doc);
    r = dbx_json_type(root) == DBX_JSON_OBJECT ? read_message(root, process_id, &m, err)
                                               : bad(err, "something that is not an object");
    if (r < 0) {
        cli_msg_done(&m);
        return r;
    }
    *ret = m;
    return 0;
}

void cli_msg_done(struct cli_msg *m)
{
    m->doc = dbx_json_doc_free(m->doc);
    free(DBX_TAKE(m->bytes));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/batch_junit.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/json.h"

#define MAX_OUTPUT (64u << 10) /* of one stream, before it is escaped */

/* What XML 1.0 cannot hold, even escaped, becomes U+FFFD. */
static void put_text(struct dbx_buf *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)s[i];
        if (ch == '<' || ch == '>' || ch == '&' || ch == '"')
            (void)dbx_buf_printf(out, "&#%d;", ch);
        else if (ch < 0x20 && ch != '\n' && ch != '\t')
            (void)dbx_buf_str(out, ch == '\r' ? "&#13;" : "\xef\xbf\xbd");
        else if (ch == 0xef && i + 2 < len && (unsigned char)s[i + 1] == 0xbf &&
                 ((unsigned char)s[i + 2] == 0xbe || (unsigned char)s[i + 2] == 0xbf)) {
            (void)dbx_buf_str(out, "\xef\xbf\xbd"); /* U+FFFE, U+FFFF */
            i += 2;
        } else
            (void)dbx_buf_append(out, &s[i], 1);
    }
}

static void put_stream(struct dbx_buf *out, const struct dbx_json *result, const char *key,
                       const char *element)
{
    bool incomplete;
    size_t len;
    const char *s = dbx_json_str(dbx_json_get(result, key), &len);
    if (!s || len == 0)
        return;
    if (len > MAX_OUTPUT)
        len = dbx_utf8_prefix((const uint8_t *)s, MAX_OUTPUT, &incomplete);
    (void)dbx_buf_printf(out, "<%s>", element);
    put_text(out, s, len);
    (void)dbx_buf_printf(out, "</%s>", element);
}

void gw_junit_head(struct dbx_buf *out, const struct gw_batch_row *b, int64_t tests,
                   int64_t failures, int64_t errors)
{
    char id[DBX_ID_TEXT], at[25];
    int64_t until = b->ended_us ? b->ended_us : dbx_wall_us();
    dbx_id_format(&b->id, id);
    dbx_format_time(b->created_us, at);
    (void)dbx_buf_printf(out,
                         "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"%s\" "
                         "tests=\"%" PRId64 "\" failures=\"%" PRId64 "\" errors=\"%" PRId64
                         "\" skipped=\"0\" timestamp=\"%s\" time=\"%.3f\">\n",
                         id, tests, failures, errors, at, (double)(until - b->created_us) / 1e6);
}

static void put_verdict(struct dbx_buf *out, const struct gw_process *p)
{
    enum dbx_verdict v = p->end.verdict;
    bool ok = p->has_passed ? p->passed : v == DBX_V_OK;
    bool ours = v == DBX_V_CANCELLED || v == DBX_V_NODE_LOST || v == DBX_V_INTERNAL;
    const char *name = dbx_verdict_name(v);
    if (ok)
        return;
    (void)dbx_buf_printf(out, "<%s type=\"%s\" message=\"", ours ? "error" : "failure",
                         v == DBX_V_OK ? "WRONG_OUTPUT"
                         : name        ? name
                                       : "INTERNAL");
    if (v == DBX_V_OK)
        (void)dbx_buf_str(out, "stdout is not what was expected");
    else if (v == DBX_V_EXIT_CODE)
        (void)dbx_buf_printf(out, "exit code %d", p->end.run.exit_code);
    else
        (void)dbx_buf_str(out, name ? name : "INTERNAL");
    (void)dbx_buf_str(out, "\"/>");
}

void gw_junit_case(struct dbx_buf *out, const struct gw_process *p, const struct dbx_buf *json)
{
    const struct dbx_json_limits limits = {.max_nodes = 1000};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    (void)dbx_buf_printf(
        out, "<testcase classname=\"%s\" name=\"executions[%" PRId64 "]\" time=\"%.3f\">",
        p->template, p->batch_index, p->end.ran ? (double)p->end.run.usage.wall_ms / 1e3 : 0.0);
    put_verdict(out, p);
    if (dbx_json_parse(json->data, json->len, &limits, &doc, NULL) == 0) {
        put_stream(out, dbx_json_root(doc), "stdout", "system-out");
        put_stream(out, dbx_json_root(doc), "stderr", "system-err");
    }
    (void)dbx_buf_str(out, "</testcase>\n");
}

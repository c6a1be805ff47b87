/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/limits.h"
#include "tests/unit/check.h"
#include <signal.h>

static int decode(const char *json, struct dbx_limits *ret, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    if (dbx_json_parse(json, strlen(json), NULL, &doc, err) < 0)
        return -1;
    return dbx_limits_decode(dbx_json_root(doc), &dbx_limits_default, &dbx_limits_default,
                             "limits.", ret, err);
}

static void test_decode(void)
{
    struct dbx_limits l, low = dbx_limits_default;
    struct dbx_err err = {0};

    CHECK_EQ(decode("{}", &l, NULL), 0);
    CHECK(memcmp(&l, &dbx_limits_default, sizeof(l)) == 0);
    CHECK_EQ(decode("{\"cpu_ms\":1,\"disk_mb\":256}", &l, NULL), 0);
    CHECK(l.cpu_ms == 1 && l.disk_mb == 256 && l.wall_ms == 30000);
    CHECK(decode("{\"cpu_ms\":10001}", &l, &err) < 0);
    CHECK_STR(err.field, "limits.cpu_ms");
    CHECK(decode("{\"open_files\":0}", &l, &err) < 0);
    CHECK_STR(err.field, "limits.open_files");
    CHECK(decode("{\"bogus\":1}", &l, &err) < 0);
    CHECK(decode("{\"cpu_ms\":\"1\"}", &l, &err) < 0);
    CHECK(decode("[]", &l, &err) < 0);
    low.memory_mb = 16;
    CHECK_EQ(dbx_limits_decode(NULL, &dbx_limits_default, &low, "limits.", &l, NULL), 0);
    CHECK_EQ(l.memory_mb, 16);
}

static void test_verdicts(void)
{
    for (int v = DBX_V_OK; v <= DBX_V_INTERNAL; v++) {
        CHECK_EQ(dbx_verdict_parse(dbx_verdict_name(v)), v);
        CHECK(dbx_verdict_status(v) != NULL);
    }
    CHECK(dbx_verdict_name(DBX_V_NONE) == NULL);
    CHECK_EQ(dbx_verdict_parse("ok"), DBX_V_NONE);
    CHECK_EQ(dbx_verdict_parse(NULL), DBX_V_NONE);
    CHECK_STR(dbx_verdict_status(DBX_V_SIGNAL), "completed");
    CHECK_STR(dbx_verdict_status(DBX_V_CANCELLED), "cancelled");
    CHECK_STR(dbx_verdict_status(DBX_V_NODE_LOST), "failed");
    CHECK_STR(dbx_signal_name(SIGSEGV), "SIGSEGV");
    CHECK_STR(dbx_signal_name(SIGKILL), "SIGKILL");
    CHECK_STR(dbx_signal_name(34), "SIG34");
    CHECK_STR(dbx_signal_name(1000), "SIG?");
}

static void test_outcome(void)
{
    struct dbx_outcome o = {.verdict = DBX_V_EXIT_CODE, .exit_code = 3, .stdout_bytes = 7};
    struct dbx_outcome back;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_buf out;

    o.usage.cpu_ms = 12;
    dbx_buf_init(&out, 4096);
    struct dbx_jw *w = dbx_jw_new(&out);
    dbx_outcome_write(w, &o);
    CHECK_EQ(dbx_jw_end(&w), 0);
    CHECK_EQ(dbx_json_parse(out.data, out.len, NULL, &doc, NULL), 0);
    CHECK(dbx_json_type(dbx_json_get(dbx_json_root(doc), "signal")) == DBX_JSON_NULL);
    CHECK_EQ(dbx_outcome_read(dbx_json_root(doc), &back, NULL), 0);
    CHECK(back.verdict == o.verdict && back.exit_code == 3 && back.signal == 0);
    CHECK(back.stdout_bytes == 7 && back.usage.cpu_ms == 12);
    dbx_buf_done(&out);
}

static void test_outcome_bad(void)
{
    static const char *const bad[] = {
        "null",
        "{}",
        "{\"verdict\":\"NOPE\"}",
        "{\"verdict\":\"OK\",\"exit_code\":256}",
        "{\"verdict\":\"OK\",\"signal\":-1}",
        "{\"verdict\":\"OK\",\"stdout_bytes\":-1}",
    };
    struct dbx_outcome o;

    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
        CHECK_EQ(dbx_json_parse(bad[i], strlen(bad[i]), NULL, &doc, NULL), 0);
        CHECK(dbx_outcome_read(dbx_json_root(doc), &o, NULL) < 0);
    }
}

int main(void)
{
    test_decode();
    test_verdicts();
    test_outcome();
    test_outcome_bad();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "gateway/workspace_decode.h"
#include "tests/unit/check.h"

#include <string.h>

static bool has_template(const char *name, void *user)
{
    (void)user;
    return dbx_streq(name, "python");
}

static int decode(enum gw_body_kind kind, const char *body, struct gw_body *b, struct dbx_err *err)
{
    const struct gw_body_rules rules = {.has_template = has_template};
    return gw_body_decode(kind, body, strlen(body), &rules, b, err);
}

static const struct {
    enum gw_body_kind kind;
    const char *body, *field;
} bad[] = {
    {GW_BODY_WORKSPACE, "[]", ""},
    {GW_BODY_WORKSPACE, "{\"template\":\"python\"}", "name"},
    {GW_BODY_WORKSPACE, "{\"name\":\"\",\"template\":\"python\"}", "name"},
    {GW_BODY_WORKSPACE, "{\"name\":\"x\"}", "template"},
    {GW_BODY_WORKSPACE, "{\"name\":\"x\",\"template\":\"cobol\"}", "template"},
    {GW_BODY_WORKSPACE, "{\"name\":\"x\",\"template\":\"python\",\"sharing_mode\":\"all\"}",
     "sharing_mode"},
    {GW_BODY_WORKSPACE, "{\"name\":\"x\",\"template\":\"python\",\"owner\":\"me\"}", "owner"},
    {GW_BODY_WORKSPACE_PATCH, "{\"name\":7}", "name"},
    {GW_BODY_FILE, "{\"content\":\"\"}", "path"},
    {GW_BODY_FILE, "{\"path\":\"/a\",\"content\":\"\"}", "path"},
    {GW_BODY_FILE, "{\"path\":\"a/../b\",\"content\":\"\"}", "path"},
    {GW_BODY_FILE, "{\"path\":\"a\"}", "content"},
    {GW_BODY_FILE, "{\"path\":\"a\",\"content\":\"\",\"content_base64\":\"\"}", "content"},
    {GW_BODY_FILE, "{\"path\":\"a\",\"content_base64\":\"!\"}", "content_base64"},
    {GW_BODY_FILE, "{\"path\":\"a\",\"type\":\"link\",\"content\":\"\"}", "type"},
    {GW_BODY_FILE, "{\"path\":\"a\",\"type\":\"directory\",\"content\":\"\"}", "content"},
    {GW_BODY_CONTENT, "{}", "content"},
    {GW_BODY_MOVE, "{}", "path"},
    {GW_BODY_RUN, "{}", "command"},
    {GW_BODY_RUN, "{\"command\":null}", "command"},
    {GW_BODY_RUN, "{\"command\":\"\"}", "command"},
    {GW_BODY_RUN, "{\"command\":[\"a\",1]}", "command[1]"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"env\":{\"1\":\"\"}}", "env.1"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"cwd\":\"/tmp\"}", "cwd"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"pty\":true}", "pty"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"pty\":{\"cols\":80}}", "pty.rows"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"pty\":{\"cols\":0,\"rows\":24}}", "pty.cols"},
    {GW_BODY_SIGNAL, "{}", "signal"},
    {GW_BODY_SIGNAL, "{\"signal\":\"SIGSEGV\"}", "signal"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"limits\":{\"cpu_ms\":0}}", "limits.cpu_ms"},
    {GW_BODY_RUN, "{\"command\":\"x\",\"limits\":{\"memory_mb\":1}}", "limits.memory_mb"},
    {GW_BODY_SANDBOX, "{\"size\":\"tpu\"}", "size"},
    {GW_BODY_INPUT, "{}", "data"},
    {GW_BODY_INPUT, "{\"data\":\"x\",\"encoding\":\"hex\"}", "encoding"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        struct gw_body b;
        struct dbx_err err = {0};
        CHECK(decode(bad[i].kind, bad[i].body, &b, &err) < 0);
        CHECK_EQ(err.kind, DBX_INVALID);
        CHECK_STR(err.field, bad[i].field);
    }
}

static void test_good(void)
{
    struct gw_body b;
    struct dbx_err err = {0};
    CHECK_EQ(decode(GW_BODY_FILE, "{\"path\":\"a/b\",\"content\":\"x\\u0000y\"}", &b, &err), 0);
    CHECK_EQ(b.content_len, 3);
    gw_body_done(&b);
    CHECK_EQ(decode(GW_BODY_FILE, "{\"path\":\"a\",\"type\":\"directory\"}", &b, &err), 0);
    CHECK(b.directory && b.content_len == 0);
    gw_body_done(&b);
    CHECK_EQ(decode(GW_BODY_SANDBOX, "", &b, &err), 0);
    gw_body_done(&b);
    CHECK_EQ(decode(GW_BODY_INPUT, "{\"data\":\"AP8=\",\"encoding\":\"base64\"}", &b, &err), 0);
    CHECK(b.content_len == 2 && b.content[1] == 0xff);
    gw_body_done(&b);
}

static void test_request(void)
{
    static const char body[] = "{\"command\":\"ls\",\"cwd\":\"d\",\"limits\":{\"wall_ms\":5}}";
    struct gw_body b;
    struct dbx_buf out;
    CHECK_EQ(decode(GW_BODY_RUN, body, &b, NULL), 0);
    const struct gw_run run = {.body = &b,
                               .template = "python",
                               .size = "cpu-small",
                               .revision = 3,
                               .idle_ms = 10,
                               .max_ms = 20};
    dbx_buf_init(&out, 4096);
    struct dbx_jw *w = dbx_jw_new(&out);
    gw_run_write_request(w, &run);
    CHECK_EQ(dbx_jw_end(&w), 0);
    CHECK_STR(
        dbx_buf_cstr(&out),
        "{\"template\":\"python\",\"command\":\"ls\",\"env\":{},\"stdin_open\":true,"
        "\"limits\":{\"wall_ms\":5},\"retry\":\"never\",\"workspace\":{\"size\":\"cpu-small\","
        "\"cwd\":\"d\",\"revision\":3,\"idle_ms\":10,\"max_ms\":20}}");
    dbx_buf_done(&out);
    gw_body_done(&b);
}

static void test_if_match(void)
{
    char etag[65];
    struct dbx_err err = {0};
    CHECK(gw_if_match(NULL, etag, &err) == 0 && !*etag);
    CHECK(gw_if_match("*", etag, &err) == 0 && !*etag);
    CHECK(gw_if_match("\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"", etag,
                      &err) == 0);
    CHECK_EQ(strlen(etag), 64);
    /* well made, but no tag that a file could have: it fits none */
    static const char *const strange[] = {"\"short\"", "W/\"x\"", "\"\"", "\"a\" , \"b,c\"",
                                          "W/\"0123456789abcdef0123456789abcdef0123456789abcdef0123"
                                          "456789abcdef\""};
    for (size_t i = 0; i < DBX_ARRAY_LEN(strange); i++) {
        CHECK_EQ(gw_if_match(strange[i], etag, &err), 0);
        CHECK_STR(etag, "none");
    }
    CHECK(gw_if_match("\"x\", \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
                      etag, &err) == 0);
    CHECK_EQ(strlen(etag), 64);
    static const char *const broken[] = {"",   "short", "\"open", "\"a\",", "\"a\" \"b\"",
                                         "W/", ",",     "* "};
    for (size_t i = 0; i < DBX_ARRAY_LEN(broken); i++) {
        err = (struct dbx_err){0};
        CHECK(gw_if_match(broken[i], etag, &err) < 0);
        CHECK_STR(err.field, "If-Match");
    }
}

int main(void)
{
    test_bad();
    test_good();
    test_request();
    test_if_match();
    return check_result();
}

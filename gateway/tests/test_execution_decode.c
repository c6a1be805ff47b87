/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/execution_decode.h"

#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/proto/files.h"
#include "tests/unit/check.h"

static bool has_template(const char *name, void *user)
{
    (void)user;
    return dbx_streq(name, "python");
}

static int decode(const char *body, struct gw_execution *ex, struct dbx_err *err)
{
    const struct gw_execution_rules rules = {.max = dbx_limits_default,
                                             .compile_max = dbx_limits_compile_default,
                                             .has_template = has_template};
    return gw_execution_decode(body, strlen(body), &rules, ex, err);
}

#define T "\"template\":\"python\","
#define F "\"files\":[]"
#define FILES(...) "{" T "\"files\":[{\"path\":\"m\",\"content\":\"\"}," __VA_ARGS__ "]}"

static const struct {
    const char *body, *field;
} bad[] = {
    {"", ""},
    {"[]", ""},
    {"{", ""},
    {"{" F "}", "template"},
    {"{" T "\"x\":1," F "}", "x"},
    {"{\"template\":\"python\"}", "files"},
    {"{\"template\":\"cobol\"," F "}", "template"},
    {"{\"template\":7," F "}", "template"},
    {"{" T "\"files\":{}}", "files"},
    {FILES("7"), "files[1]"},
    {FILES("{}"), "files[1].path"},
    {FILES("{\"path\":\"x\"}"), "files[1].content"},
    {FILES("{\"path\":\"x\",\"content\":\"\",\"content_base64\":\"\"}"), "files[1].content"},
    {FILES("{\"path\":\"x\",\"content_base64\":\"!\"}"), "files[1].content_base64"},
    {FILES("{\"path\":\"x\",\"content\":1}"), "files[1].content"},
    {FILES("{\"path\":\"x\",\"content\":\"\",\"mode\":1}"), "files[1].mode"},
    {FILES("{\"path\":\"m\",\"content\":\"\"}"), "files[1].path"},
    {FILES("{\"path\":\"m/x\",\"content\":\"\"}"), "files[1].path"},
    {FILES("{\"path\":\"a/b\",\"content\":\"\"},{\"path\":\"a\",\"content\":\"\"}"),
     "files[2].path"},
    {FILES("{\"path\":\"/m\",\"content\":\"\"}"), "files[1].path"},
    {FILES("{\"path\":\"a/../b\",\"content\":\"\"}"), "files[1].path"},
    {FILES("{\"path\":\"a//b\",\"content\":\"\"}"), "files[1].path"},
    {FILES("{\"path\":\"a\\u0000b\",\"content\":\"\"}"), "files[1].path"},
    {FILES("{\"path\":\"\",\"content\":\"\"}"), "files[1].path"},
    {"{" T F ",\"command\":7}", "command"},
    {"{" T F ",\"command\":\"\"}", "command"},
    {"{" T F ",\"command\":[]}", "command"},
    {"{" T F ",\"command\":[\"\"]}", "command[0]"},
    {"{" T F ",\"command\":[\"a\",7]}", "command[1]"},
    {"{" T F ",\"command\":[\"a\",\"\\u0000\"]}", "command[1]"},
    {"{" T F ",\"stdin\":7}", "stdin"},
    {"{" T F ",\"env\":[]}", "env"},
    {"{" T F ",\"env\":{\"A\":7}}", "env.A"},
    {"{" T F ",\"env\":{\"A\":\"\\u0000\"}}", "env.A"},
    {"{" T F ",\"env\":{\"1A\":\"\"}}", "env.1A"},
    {"{" T F ",\"env\":{\"\":\"\"}}", "env."},
    {"{" T F ",\"limits\":{\"cpu_ms\":0}}", "limits.cpu_ms"},
    {"{" T F ",\"limits\":{\"cpu_ms\":10001}}", "limits.cpu_ms"},
    {"{" T F ",\"limits\":{\"memory_mb\":\"1\"}}", "limits.memory_mb"},
    {"{" T F ",\"limits\":{\"x\":1}}", "limits.x"},
    {"{" T F ",\"compile_limits\":{\"cpu_ms\":60001}}", "compile_limits.cpu_ms"},
    {"{" T F ",\"retry\":\"always\"}", "retry"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        struct gw_execution ex;
        struct dbx_err err = {0};
        CHECK(decode(bad[i].body, &ex, &err) < 0);
        CHECK_STR(err.field, bad[i].field);
        CHECK_EQ(err.kind, DBX_INVALID);
    }
}

static void test_good(void)
{
    struct gw_execution ex;
    struct dbx_err err = {0};
    struct dbx_file f;
    size_t at = 0;
    CHECK_EQ(decode("{" T "\"files\":[{\"path\":\"a/run\",\"content\":\"#!x\\u0000\"},"
                    "{\"path\":\"a/b\",\"content_base64\":\"/w==\"}],\"command\":[\"x\",\"\"],"
                    "\"stdin\":\"a\\u0000b\",\"env\":{\"A_1\":\"v\"},\"limits\":{\"cpu_ms\":5,"
                    "\"disk_mb\":7},"
                    "\"compile_limits\":null,\"retry\":\"safe\"}",
                    &ex, &err),
             0);
    CHECK_STR(err.msg, "");
    CHECK_EQ(ex.limits.cpu_ms, 5);
    CHECK_EQ(ex.limits.memory_mb, 256);
    CHECK_EQ(ex.compile_limits.cpu_ms, 60000);
    CHECK_EQ(ex.compile_limits.disk_mb, 7); /* the disk is one */
    CHECK(ex.retry_safe && ex.has_stdin && ex.stdin_len == 3);
    CHECK_EQ(dbx_files_next(ex.files.data, ex.files.len, &at, &f), 1);
    CHECK(f.size == 4 && f.mode == 0755 && f.path_len == 5);
    CHECK_EQ(dbx_files_next(ex.files.data, ex.files.len, &at, &f), 1);
    CHECK(f.size == 1 && f.data[0] == 0xff && f.mode == 0644);
    CHECK_EQ(dbx_files_next(ex.files.data, ex.files.len, &at, &f), 0);
    gw_execution_done(&ex);
}

static void test_request(void)
{
    struct gw_execution ex;
    struct dbx_buf buf;
    struct dbx_json_doc *doc = NULL;
    dbx_buf_init(&buf, DBX_MAX_BODY);
    CHECK_EQ(decode("{" T F ",\"stdin\":null,\"command\":null}", &ex, NULL), 0);
    CHECK(!ex.has_stdin && ex.stdin_len == 0);
    struct dbx_jw *w = dbx_jw_new(&buf);
    gw_execution_write_request(w, &ex, true);
    CHECK_EQ(dbx_jw_end(&w), 0);
    CHECK_EQ(dbx_json_parse(buf.data, buf.len, NULL, &doc, NULL), 0);
    const struct dbx_json *root = dbx_json_root(doc);
    CHECK_EQ(dbx_json_count(root), 7);
    CHECK_EQ(dbx_json_type(dbx_json_get(root, "command")), DBX_JSON_NULL);
    CHECK_EQ(dbx_json_type(dbx_json_get(root, "env")), DBX_JSON_OBJECT);
    CHECK(dbx_json_get_bool(root, "stdin_open", false));
    CHECK_STR(dbx_json_get_str(root, "retry"), "never");
    CHECK_EQ(dbx_json_get_i64(dbx_json_get(root, "limits"), "cpu_ms", 0), 10000);
    dbx_json_doc_free(doc);
    dbx_buf_done(&buf);
    gw_execution_done(&ex);
}

int main(void)
{
    test_bad();
    test_good();
    test_request();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/crypto.h"
#include "common/ext/json.h"
#include "common/proto/files.h"
#include "gateway/batch_decode.h"
#include "gateway/batch_junit.h"
#include "gateway/gw.h"
#include "gateway/webhooks.h"
#include "tests/unit/check.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool has_template(const char *name, void *user)
{
    (void)user;
    return strcmp(name, "python") == 0;
}

static int any_url(const char *url, struct dbx_err *err, void *user)
{
    (void)url;
    (void)err;
    (void)user;
    return 0;
}

static int decode(const char *body, struct gw_batch *b, struct dbx_err *err)
{
    const struct gw_batch_rules rules = {.execution = {.max = dbx_limits_default,
                                                       .compile_max = dbx_limits_compile_default,
                                                       .has_template = has_template},
                                         .check_url = any_url};
    *b = (struct gw_batch){0};
    *err = (struct dbx_err){0};
    return gw_batch_decode(body, strlen(body), &rules, b, err);
}

static void test_item(void)
{
    struct gw_batch b;
    struct dbx_err err;
    uint8_t sha[DBX_SHA256_LEN];

    CHECK_EQ(decode("{\"template\":\"python\",\"files\":[{\"path\":\"s\",\"content\":\"1\"}],"
                    "\"executions\":[{},{\"files\":[{\"path\":\"m\",\"content\":\"22\"}],"
                    "\"stdin\":\"in\",\"expected_stdout\":\"out\"}],\"priority\":7}",
                    &b, &err),
             0);
    CHECK_EQ(b.nitems, 2);
    CHECK_EQ(b.nchunks, 1);
    CHECK_EQ(b.priority, 7);
    const struct gw_batch_item *it = &b.items[1];
    const uint8_t *at = b.chunks[0].blob.data + it->at;
    CHECK(!b.items[0].has_expected && it->has_expected);
    dbx_sha256("out", 3, sha);
    CHECK(memcmp(sha, it->expected, sizeof(sha)) == 0);
    CHECK(at[0] == '{' && at[it->request_len - 1] == '}');
    CHECK_EQ(it->stdin_len, 2);
    CHECK(memcmp(at + it->request_len + it->files_len, "in", 2) == 0);
    struct dbx_buf all;
    dbx_buf_init(&all, 4096);
    CHECK_EQ(dbx_files_join(&all, b.files.data, b.files.len), 0);
    CHECK_EQ(dbx_files_join(&all, at + it->request_len, it->files_len), 0);
    CHECK_EQ(dbx_files_check(all.data, all.len, NULL), 0);
    CHECK_EQ(dbx_files_join(&all, "nothing", 7), -EBADMSG);
    dbx_buf_done(&all);
    gw_batch_done(&b);
}

static void test_chunks(void)
{
    struct dbx_buf body;
    struct gw_batch b;
    struct dbx_err err;

    dbx_buf_init(&body, 4u << 20);
    (void)dbx_buf_str(&body, "{\"template\":\"python\",\"executions\":[{}");
    for (int i = 1; i < 1201; i++)
        (void)dbx_buf_str(&body, ",{}");
    (void)dbx_buf_str(&body, "]}");
    CHECK_EQ(decode(dbx_buf_cstr(&body), &b, &err), 0);
    CHECK_EQ(b.nchunks, 3);
    CHECK_EQ(b.chunks[2].first, 1000);
    CHECK_EQ(b.chunks[2].count, 201);
    gw_batch_done(&b);
    dbx_buf_done(&body);
}

static void test_fields(void)
{
    static const char *const bad[][2] = {
        {"{\"template\":\"python\",\"executions\":[{},{\"stdin\":1}]}", "executions[1].stdin"},
        {"{\"template\":\"python\",\"executions\":[1]}", "executions[0]"},
        {"{\"template\":\"nosuch\",\"executions\":[{}]}", "template"},
    };
    struct gw_batch b;
    struct dbx_err err;

    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        CHECK(decode(bad[i][0], &b, &err) < 0);
        CHECK_STR(err.field, bad[i][1]);
        gw_batch_done(&b);
    }
}

static void test_urls(void)
{
    static const char *const good[] = {"https://example.org", "http://example.org:8080/x?y#z",
                                       "http://8.8.8.8/", "http://[2606:4700::1]/",
                                       "http://127.1.2.3:80/"};
    static const char *const bad[] = {"",
                                      "example.org",
                                      "ftp://example.org/",
                                      "http://",
                                      "http:///x",
                                      "http://u@example.org/",
                                      "http://a b/",
                                      "http://a\\b/",
                                      "http://10.0.0.1/",
                                      "http://[::1]/",
                                      "http://[::1",
                                      "http://169.254.169.254/latest",
                                      "http://192.168.1.1:80"};
    char allow[] = "127.0.0.0/8";
    const struct gw_config cfg = {.webhook_allow = allow};
    struct gw gw = {.cfg = &cfg};

    for (size_t i = 0; i < DBX_ARRAY_LEN(good); i++)
        CHECK_EQ(gw_webhook_check_url(good[i], NULL, &gw), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(gw_webhook_check_url(bad[i], NULL, &gw), -EINVAL);
    CHECK_EQ(gw_webhook_backoff(1000, 1), 1000);
    CHECK_EQ(gw_webhook_backoff(1000, 4), 8000);
    CHECK_EQ(gw_webhook_backoff(1000, 90), 3600000);
}

static void test_junit(void)
{
    struct dbx_buf out, json;
    struct gw_process p = {.template = "python", .batch_index = 3, .has_passed = true};
    static const char text[] = "{\"stdout\":\"a<b\\u0001\\uffff\\r\",\"stderr\":\"\"}";

    p.end.verdict = DBX_V_OK;
    dbx_buf_init(&out, GW_JUNIT_MAX_CASE);
    dbx_buf_init(&json, 1000);
    (void)dbx_buf_str(&json, text);
    gw_junit_case(&out, &p, &json);
    CHECK_STR(
        dbx_buf_cstr(&out),
        "<testcase classname=\"python\" name=\"executions[3]\" time=\"0.000\"><failure "
        "type=\"WRONG_OUTPUT\" message=\"stdout is not what was expected\"/><system-out>a&#60;"
        "b\xef\xbf\xbd\xef\xbf\xbd&#13;</system-out></testcase>\n");
    dbx_buf_done(&out);
    dbx_buf_done(&json);
}

int main(void)
{
    test_item();
    test_chunks();
    test_fields();
    test_urls();
    test_junit();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/request.h"

#include "common/ext/json.h"
#include "gateway/auth.h"
#include "gateway/error.h"
#include "tests/unit/check.h"

static void test_ids(void)
{
    char id[65], other[65];
    gw_request_id("my-Request_1.a", id);
    CHECK_STR(id, "my-Request_1.a");
    static const char *const bad[] = {"", "a b", "a\nb", "\"", "\xc3\xa4", "<x>"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        gw_request_id(bad[i], id);
        CHECK_EQ(strlen(id), 36);
    }
    gw_request_id(NULL, other);
    CHECK(strcmp(id, other) != 0);
    memset(id, 'x', 64);
    id[64] = '\0';
    gw_request_id(id, other);
    CHECK_STR(other, id);
    char longer[66];
    memset(longer, 'x', 65);
    longer[65] = '\0';
    gw_request_id(longer, other);
    CHECK_EQ(strlen(other), 36);
}

static void test_trace(void)
{
    static const char given[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    static const char *const bad[] = {
        NULL,
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00",
    };
    char out[GW_TRACE_TEXT];
    gw_traceparent(given, out);
    CHECK_EQ(strlen(out), 55);
    CHECK(memcmp(out, given, 36) == 0);           /* the same trace */
    CHECK(memcmp(out + 36, given + 36, 16) != 0); /* another span */
    CHECK_STR(out + 52, "-00");
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        gw_traceparent(bad[i], out);
        CHECK_EQ(strlen(out), 55);
        CHECK(memcmp(out + 3, given + 3, 32) != 0);
    }
}

static void test_bearer(void)
{
    CHECK_STR(gw_bearer("Bearer abc"), "abc");
    CHECK_STR(gw_bearer("bearer   abc"), "abc");
    CHECK(!gw_bearer(NULL) && !gw_bearer("Bearer ") && !gw_bearer("Basic abc"));
    CHECK(!gw_bearer("Bearer a b") && !gw_bearer("Bearerabc"));
}

static void test_error(void)
{
    struct dbx_buf buf;
    struct dbx_json_doc *doc = NULL;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    gw_error_write(&buf, DBX_INVALID, NULL, "bad \"thing\" \xc3", "files[2].path", "r1");
    CHECK_EQ(dbx_json_parse(buf.data, buf.len, NULL, &doc, NULL), 0);
    const struct dbx_json *e = dbx_json_get(dbx_json_root(doc), "error");
    CHECK_EQ(dbx_json_count(e), 5);
    CHECK_STR(dbx_json_get_str(e, "type"), "invalid");
    CHECK_STR(dbx_json_get_str(e, "code"), "invalid");
    CHECK_STR(dbx_json_get_str(e, "message"), "bad \"thing\" ");
    CHECK_STR(dbx_json_get_str(e, "field"), "files[2].path");
    CHECK_STR(dbx_json_get_str(e, "request_id"), "r1");
    dbx_json_doc_free(doc);
    dbx_buf_done(&buf);
    CHECK_EQ(gw_error_status(DBX_INVALID), 400);
    CHECK_EQ(gw_error_status(DBX_UNAVAIL), 503);
    CHECK_EQ(gw_error_status(DBX_CONFLICT), 409);
    CHECK_EQ(gw_error_status(DBX_OK), 500);
}

int main(void)
{
    test_ids();
    test_trace();
    test_bearer();
    test_error();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "common/ext/json.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

static int parse(const char *text, size_t len, struct dbx_json_doc **ret, struct dbx_err *err)
{
    char *exact = dbx_malloc(len); /* so that ASan sees what reads past the end */
    memcpy(exact, text, len);
    int r = dbx_json_parse(exact, len, NULL, ret, err);
    dbx_freep(&exact);
    return r;
}

#define LIT(s) s, sizeof(s) - 1

static const struct {
    const char *text;
    size_t len;
    const char *why; /* part of the message; NULL: good */
} documents[] = {
    {LIT("null"), NULL},
    {LIT(" {} "), NULL},
    {LIT("[]"), NULL},
    {LIT("1"), NULL},
    {LIT("-0"), NULL},
    {LIT("1.5e3"), NULL},
    {LIT("9223372036854775807"), NULL},
    {LIT("-9223372036854775808"), NULL},
    {LIT("\"\\ud83d\\ude00\""), NULL},
    {LIT("\"\\\\ud800\""), NULL},
    {LIT("\"a\\u0000b\""), NULL},
    {LIT("{\"a\":{\"a\":1},\"b\":[{\"a\":2}]}"), NULL},
    {LIT(""), "empty document at byte 0"},
    {LIT(" "), "at byte 1"},
    {LIT("{"), "at byte 1"},
    {LIT("[1,"), "at byte 3"},
    {LIT("\"abc"), "at byte 4"},
    {LIT("tru"), "at byte 3"},
    {LIT("[1,]"), "at byte 4"},
    {LIT("{\"a\":1,}"), "at byte"},
    {LIT("{\"a\" 1}"), "at byte"},
    {LIT("{a:1}"), "at byte"},
    {LIT("[1}"), "at byte 3"},
    {LIT("1 2"), "at byte"},
    {LIT("{} x"), "at byte"},
    {LIT("{}\0"), "at byte"},
    {LIT("\xef\xbb\xbf{}"), "at byte"},
    {LIT("/* no */ 1"), "at byte"},
    {LIT("[1] // no"), "at byte"},
    {LIT("01"), "at byte"},
    {LIT("1."), "at byte"},
    {LIT(".5"), "at byte"},
    {LIT("+1"), "at byte"},
    {LIT("-"), "at byte"},
    {LIT("0x10"), "at byte"},
    {LIT("NaN"), "at byte"},
    {LIT("Infinity"), "at byte"},
    {LIT("'a'"), "at byte"},
    {LIT("1e400"), "number out of range"},
    {LIT("-1e400"), "number out of range"},
    {LIT("9223372036854775808"), "integer out of range"},
    {LIT("-9223372036854775809"), "integer out of range"},
    {LIT("12345678901234567890"), "integer out of range"},
    {LIT("\"\\ud800\""), "lone surrogate at byte 1"},
    {LIT("\"\\ud800"), "lone surrogate at byte 1"},
    {LIT("\"\\udc00\""), "lone surrogate"},
    {LIT("\"\\ud800\\u0041\""), "lone surrogate"},
    {LIT("\"\\ud800\\ud800\""), "lone surrogate"},
    {LIT("{\"\\udfff\":1}"), "lone surrogate"},
    {LIT("\"\\u12\""), "at byte"},
    {LIT("\"\\"), "at byte"},
    {LIT("\"\\x\""), "at byte"},
    {LIT("\"a\nb\""), "at byte"},
    {LIT("\"a\tb\""), "at byte"},
    {LIT("\"a\0b\""), "at byte"},
    {LIT("\"\xff\""), "invalid UTF-8 at byte 1"},
    {LIT("\"\xc0\x80\""), "invalid UTF-8 at byte 1"},
    {LIT("\"\xed\xa0\x80\""), "invalid UTF-8 at byte 1"},
    {LIT("\"\xf4\x90\x80\x80\""), "invalid UTF-8 at byte 1"},
    {LIT("\"\xe2\x82"), "invalid UTF-8 at byte 1"},
    {LIT("{\"a\\u0000\":1}"), "NUL in a key"},
    {LIT("{\"a\":1,\"a\":2}"), "duplicate key 'a'"},
    {LIT("{\"a\":1,\"\\u0061\":2}"), "duplicate key 'a'"},
    {LIT("{\"\":1,\"\":2}"), "duplicate key ''"},
    {LIT("{\"0\":0,\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"4\":"
         "1}"),
     "duplicate key '4'"},
};

static void test_documents(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(documents); i++) {
        DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
        struct dbx_err err = {0};
        int r = parse(documents[i].text, documents[i].len, &doc, &err);
        bool ok = documents[i].why
                      ? r == -EINVAL && err.kind == DBX_INVALID && strstr(err.msg, documents[i].why)
                      : r == 0;
        if (!ok)
            fprintf(stderr, "document %zu '%s': %d '%s'\n", i, documents[i].text, r, err.msg);
        CHECK(ok);
        CHECK((r == 0) == (doc != NULL));
    }
}

static void test_reading(void)
{
    static const char text[] =
        "{\"s\":\"a\\u0000b\\ud83d\\ude00\",\"i\":-5,\"d\":2.5,\"t\":true,\"n\":null,"
        "\"a\":[1,\"x\",[]],\"o\":{\"k\":7}}";
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err err;
    CHECK_EQ(parse(LIT(text), &doc, &err), 0);
    if (!doc)
        return;
    const struct dbx_json *root = dbx_json_root(doc), *v = NULL;
    size_t len = 0;
    const char *s = dbx_json_str(dbx_json_get(root, "s"), &len);
    CHECK_EQ(len, 7);
    CHECK(s && memcmp(s, "a\0b\xf0\x9f\x98\x80", 8) == 0);
    CHECK_EQ(dbx_json_get_i64(root, "i", 0), -5);
    CHECK_EQ(dbx_json_get_i64(root, "d", 9), 9);
    CHECK(dbx_json_double(dbx_json_get(root, "d"), 0) == 2.5);
    CHECK(dbx_json_double(dbx_json_get(root, "i"), 0) == -5);
    CHECK(dbx_json_get_bool(root, "t", false));
    CHECK(!dbx_json_get_bool(root, "i", false));
    CHECK(dbx_json_get(root, "n") != NULL);
    CHECK(dbx_json_get(root, "absent") == NULL);
    CHECK(dbx_json_get_str(root, "i") == NULL);
    CHECK_EQ(dbx_json_count(dbx_json_get(root, "a")), 3);
    CHECK_STR(dbx_json_str(dbx_json_at(dbx_json_get(root, "a"), 1), NULL), "x");
    CHECK(dbx_json_at(dbx_json_get(root, "a"), 3) == NULL);
    CHECK(dbx_json_at(root, 0) == NULL);
    CHECK_STR(dbx_json_key(root, 1, &v), "i");
    CHECK_EQ(dbx_json_i64(v, 0), -5);
    CHECK(dbx_json_key(root, 7, &v) == NULL);
    CHECK_EQ(dbx_json_get_i64(dbx_json_get(root, "o"), "k", 0), 7);
    CHECK_EQ(dbx_json_type(NULL), DBX_JSON_NULL);
    CHECK_EQ(dbx_json_count(NULL), 0);
    CHECK(dbx_json_get(NULL, "x") == NULL);
    CHECK_EQ(dbx_json_i64(NULL, 3), 3);
}

static void test_limits(void)
{
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err;
    struct dbx_json_limits limits = {.max_depth = 3, .max_nodes = 5};
    CHECK_EQ(dbx_json_parse("[[[]]]", 6, &limits, &doc, &err), 0);
    doc = dbx_json_doc_free(doc);
    CHECK_EQ(dbx_json_parse("[[[[]]]]", 8, &limits, &doc, &err), -EINVAL);
    CHECK_STR(err.msg, "JSON: nested deeper than 3 at byte 4");
    CHECK_EQ(dbx_json_parse("[1,2,3,4]", 9, &limits, &doc, &err), 0);
    doc = dbx_json_doc_free(doc);
    CHECK_EQ(dbx_json_parse("[1,2,3,4,5]", 11, &limits, &doc, &err), -EINVAL);
    CHECK_EQ(dbx_json_parse("[1,2,3,4,5]", 11, &limits, &doc, NULL), -EINVAL);

    size_t n = 400000; /* this deep, anything that recurses falls over */
    char *deep = dbx_malloc(n);
    memset(deep, '[', n);
    limits = (struct dbx_json_limits){.max_depth = UINT32_MAX, .max_nodes = UINT32_MAX};
    CHECK_EQ(dbx_json_parse(deep, n, &limits, &doc, &err), -EINVAL);
    memset(deep + n / 2, ']', n / 2);
    CHECK_EQ(dbx_json_parse(deep, n, &limits, &doc, &err), 0);
    doc = dbx_json_doc_free(doc);
    dbx_freep(&deep);
}

/* Many keys: neither finding duplicates nor looking up may take quadratic time. */
static void test_many_keys(void)
{
    enum { N = 99000 };
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf text;
    dbx_buf_init(&text, 8u << 20);
    for (int i = 0; i < N; i++)
        CHECK_EQ(dbx_buf_printf(&text, "%s\"k%d\":%d", i ? "," : "{", i, i), 0);
    CHECK_EQ(dbx_buf_str(&text, "}"), 0);
    uint64_t start = dbx_now_ms();
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err err;
    CHECK_EQ(dbx_json_parse(text.data, text.len, NULL, &doc, &err), 0);
    int wrong = 0;
    for (int i = 0; doc && i < N; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        wrong += dbx_json_get_i64(dbx_json_root(doc), key, -1) != i;
    }
    CHECK_EQ(wrong, 0);
    CHECK(dbx_now_ms() - start < 10000); /* quadratic: minutes */
    struct dbx_json_doc *none = NULL;
    text.len--;
    CHECK_EQ(dbx_buf_str(&text, ",\"k500\":1}"), 0);
    CHECK_EQ(dbx_json_parse(text.data, text.len, NULL, &none, &err), -EINVAL);
    CHECK(strstr(err.msg, "duplicate key 'k500'") != NULL);
}

struct request {
    int64_t cpu;
    const char *name;
    bool on;
    const struct dbx_json *files, *stdin_text, *extra, *ratio, *limits;
};

static const struct dbx_json_field request_fields[] = {
    {.name = "cpu",
     .type = DBX_JSON_INT,
     .offset = offsetof(struct request, cpu),
     .min = 1,
     .max = 100},
    {.name = "name",
     .type = DBX_JSON_STRING,
     .offset = offsetof(struct request, name),
     .flags = DBX_JSON_REQUIRED,
     .min = 1,
     .max = 5},
    {.name = "on",
     .type = DBX_JSON_BOOL,
     .offset = offsetof(struct request, on),
     .flags = DBX_JSON_NULLABLE},
    {.name = "files",
     .type = DBX_JSON_ARRAY,
     .offset = offsetof(struct request, files),
     .min = 0,
     .max = 2},
    {.name = "stdin",
     .type = DBX_JSON_STRING,
     .offset = offsetof(struct request, stdin_text),
     .allow_nul = true},
    {.name = "extra", .type = DBX_JSON_NULL, .offset = offsetof(struct request, extra)},
    {.name = "ratio", .type = DBX_JSON_DOUBLE, .offset = offsetof(struct request, ratio)},
    {.name = "limits", .type = DBX_JSON_OBJECT, .offset = offsetof(struct request, limits)},
};

static const struct {
    const char *text, *field, *msg; /* field NULL: good */
} requests[] = {
    {"{\"name\":\"x\"}", NULL, NULL},
    {"{\"name\":\"x\",\"cpu\":100,\"on\":null,\"files\":[1,2],\"stdin\":\"\\u0000\",\"extra\":3,"
     "\"ratio\":1,"
     "\"limits\":{}}",
     NULL, NULL},
    {"{\"name\":\"x\",\"on\":true,\"ratio\":1.5}", NULL, NULL},
    {"{}", "p.name", "is missing"},
    {"{\"name\":\"x\",\"foo\":1}", "p.foo", "is not known here"},
    {"{\"name\":5}", "p.name", "must be a string"},
    {"{\"name\":null}", "p.name", "must be a string"},
    {"{\"name\":\"\"}", "p.name", "must in bytes be between 1 and 5"},
    {"{\"name\":\"123456\"}", "p.name", "must in bytes be between 1 and 5"},
    {"{\"name\":\"a\\u0000\"}", "p.name", "must not contain NUL"},
    {"{\"name\":\"x\",\"cpu\":0}", "p.cpu", "must be between 1 and 100"},
    {"{\"name\":\"x\",\"cpu\":101}", "p.cpu", "must be between 1 and 100"},
    {"{\"name\":\"x\",\"cpu\":1.0}", "p.cpu", "must be an integer"},
    {"{\"name\":\"x\",\"cpu\":\"1\"}", "p.cpu", "must be an integer"},
    {"{\"name\":\"x\",\"on\":1}", "p.on", "must be true or false"},
    {"{\"name\":\"x\",\"files\":[1,2,3]}", "p.files", "must in number of items be between 0 and 2"},
    {"{\"name\":\"x\",\"files\":{}}", "p.files", "must be an array"},
    {"{\"name\":\"x\",\"limits\":[]}", "p.limits", "must be an object"},
    {"{\"name\":\"x\",\"ratio\":\"1\"}", "p.ratio", "must be a number"},
    {"[]", "p", "it must be an object"},
};

static void test_decode(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(requests); i++) {
        DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
        struct dbx_err err = {0};
        struct request rq = {.cpu = 42, .on = true};
        CHECK_EQ(parse(requests[i].text, strlen(requests[i].text), &doc, &err), 0);
        int r = dbx_json_decode(dbx_json_root(doc), request_fields, DBX_ARRAY_LEN(request_fields),
                                &rq, "p.", &err);
        CHECK_EQ(r, requests[i].field ? -EINVAL : 0);
        CHECK_STR(err.field, requests[i].field ? requests[i].field : "");
        CHECK_STR(err.msg, requests[i].msg ? requests[i].msg : "");
        if (i == 0)
            CHECK_EQ(rq.cpu, 42); /* the caller's default */
        if (i == 1) {
            CHECK_EQ(rq.cpu, 100);
            CHECK_STR(rq.name, "x");
            CHECK(rq.on);
            size_t len = 0;
            CHECK(dbx_json_str(rq.stdin_text, &len) && len == 1);
            CHECK_EQ(dbx_json_i64(rq.extra, 0), 3);
        }
    }
    struct dbx_err err;
    struct request rq;
    CHECK_EQ(dbx_json_decode(NULL, request_fields, 1, &rq, "", &err), -EINVAL);
    CHECK_STR(err.msg, "the body must be an object");
}

static void test_write(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out;
    dbx_buf_init(&out, 4096);
    CHECK_EQ(dbx_buf_str(&out, "head "), 0);
    struct dbx_jw *w = dbx_jw_new(&out);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "s", "a\"\\\n\x01/\xc3\xa9");
    dbx_jw_kstr(w, "none", NULL);
    dbx_jw_ki64(w, "i", INT64_MIN);
    dbx_jw_kbool(w, "b", false);
    dbx_jw_key(w, "a");
    dbx_jw_array(w);
    dbx_jw_double(w, 0.1);
    dbx_jw_double(w, 3);
    dbx_jw_double(w, 1e300);
    dbx_jw_strn(w, "a\0b", 3);
    dbx_jw_null(w);
    dbx_jw_array(w);
    dbx_jw_array_end(w);
    dbx_jw_array_end(w);
    dbx_jw_object_end(w);
    CHECK_EQ(dbx_jw_end(&w), 0);
    CHECK(w == NULL);
    CHECK_STR(
        dbx_buf_cstr(&out),
        "head {\"s\":\"a\\\"\\\\\\n\\u0001/\xc3\xa9\",\"none\":null,\"i\":-9223372036854775808,"
        "\"b\":false,\"a\":[0.1,3.0,1e+300,\"a\\u0000b\",null,[]]}");
}

static void bad_key_twice(struct dbx_jw *w)
{
    dbx_jw_object(w);
    dbx_jw_key(w, "a");
    dbx_jw_key(w, "b");
}
static void bad_no_key(struct dbx_jw *w)
{
    dbx_jw_object(w);
    dbx_jw_str(w, "a");
    dbx_jw_i64(w, 1);
    dbx_jw_object_end(w);
}
static void bad_no_value(struct dbx_jw *w)
{
    dbx_jw_object(w);
    dbx_jw_key(w, "a");
    dbx_jw_object_end(w);
}
static void bad_close(struct dbx_jw *w)
{
    dbx_jw_array(w);
    dbx_jw_object_end(w);
}
static void bad_key_in_array(struct dbx_jw *w)
{
    dbx_jw_array(w);
    dbx_jw_key(w, "a");
    dbx_jw_array_end(w);
}
static void bad_open(struct dbx_jw *w)
{
    dbx_jw_array(w);
}
static void bad_close_first(struct dbx_jw *w)
{
    dbx_jw_array_end(w);
}
static void bad_empty(struct dbx_jw *w)
{
    (void)w;
}
static void bad_two(struct dbx_jw *w)
{
    dbx_jw_i64(w, 1);
    dbx_jw_i64(w, 2);
}
static void bad_utf8(struct dbx_jw *w)
{
    dbx_jw_str(w, "\xed\xa0\x80");
}
static void bad_number(struct dbx_jw *w)
{
    dbx_jw_double(w, NAN);
}
static void bad_deep(struct dbx_jw *w)
{
    for (int i = 0; i < 1000; i++)
        dbx_jw_array(w);
    for (int i = 0; i < 1000; i++)
        dbx_jw_array_end(w);
}
static void bad_large(struct dbx_jw *w)
{
    dbx_jw_array(w);
    for (int i = 0; i < 100; i++)
        dbx_jw_i64(w, i);
    dbx_jw_array_end(w);
}

static void test_write_errors(void)
{
    static const struct {
        void (*write)(struct dbx_jw *w);
        int code;
    } cases[] = {{bad_key_twice, -EPROTO},   {bad_no_key, -EPROTO}, {bad_no_value, -EPROTO},
                 {bad_close, -EPROTO},       {bad_open, -EPROTO},   {bad_key_in_array, -EPROTO},
                 {bad_close_first, -EPROTO}, {bad_empty, -EPROTO},  {bad_two, -EPROTO},
                 {bad_utf8, -EILSEQ},        {bad_number, -EDOM},   {bad_deep, -E2BIG},
                 {bad_large, -E2BIG}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        DBX_CLEANUP(dbx_buf_done) struct dbx_buf out;
        dbx_buf_init(&out, 200);
        CHECK_EQ(dbx_buf_str(&out, "head"), 0);
        struct dbx_jw *w = dbx_jw_new(&out);
        cases[i].write(w);
        CHECK_EQ(dbx_jw_end(&w), cases[i].code);
        CHECK_STR(dbx_buf_cstr(&out), "head");
    }
}

static void test_round_trip(void)
{
    static const char text[] =
        "{\"a\":[1,-2.5,1e+300,0.1,-0.0,\"\\u0000\\u001F\",null,true,{}],\"b\":{\"c\":[[]]}}";
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out;
    dbx_buf_init(&out, 4096);
    CHECK_EQ(parse(LIT(text), &doc, NULL), 0);
    struct dbx_jw *w = dbx_jw_new(&out);
    dbx_jw_node(w, dbx_json_root(doc));
    CHECK_EQ(dbx_jw_end(&w), 0);
    CHECK_STR(dbx_buf_cstr(&out), text);
}

int main(void)
{
    test_documents();
    test_reading();
    test_limits();
    test_many_keys();
    test_decode();
    test_write();
    test_write_errors();
    test_round_trip();
    return check_result();
}

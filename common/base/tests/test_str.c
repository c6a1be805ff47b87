/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>

static void test_numbers(void)
{
    static const struct {
        const char *text;
        uint64_t min, max;
        int r;
        uint64_t v;
    } unsigned_rows[] = {
        {"0", 0, UINT64_MAX, 0, 0},
        {"18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX},
        {"18446744073709551616", 0, UINT64_MAX, -ERANGE, 0},
        {"99999999999999999999999999", 0, UINT64_MAX, -ERANGE, 0},
        {"99999999999999999999999999x", 0, UINT64_MAX, -EINVAL, 0},
        {"007", 0, 10, 0, 7},
        {"11", 0, 10, -ERANGE, 0},
        {"4", 5, 10, -ERANGE, 0},
        {"", 0, 10, -EINVAL, 0},
        {"-1", 0, 10, -EINVAL, 0},
        {"+1", 0, 10, -EINVAL, 0},
        {" 1", 0, 10, -EINVAL, 0},
        {"1 ", 0, 10, -EINVAL, 0},
        {"0x1", 0, 10, -EINVAL, 0},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(unsigned_rows); i++) {
        uint64_t v = 0;
        CHECK_EQ(dbx_parse_u64(unsigned_rows[i].text, strlen(unsigned_rows[i].text),
                               unsigned_rows[i].min, unsigned_rows[i].max, &v),
                 unsigned_rows[i].r);
        CHECK(v == unsigned_rows[i].v);
    }
    static const struct {
        const char *text;
        int64_t min, max;
        int r;
        int64_t v;
    } signed_rows[] = {
        {"-9223372036854775808", INT64_MIN, INT64_MAX, 0, INT64_MIN},
        {"9223372036854775807", INT64_MIN, INT64_MAX, 0, INT64_MAX},
        {"9223372036854775808", INT64_MIN, INT64_MAX, -ERANGE, 0},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, -ERANGE, 0},
        {"-5", -5, 5, 0, -5},
        {"-6", -5, 5, -ERANGE, 0},
        {"-", -5, 5, -EINVAL, 0},
        {"--1", -5, 5, -EINVAL, 0},
        {"", -5, 5, -EINVAL, 0},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(signed_rows); i++) {
        int64_t v = 0;
        CHECK_EQ(dbx_parse_i64(signed_rows[i].text, strlen(signed_rows[i].text), signed_rows[i].min,
                               signed_rows[i].max, &v),
                 signed_rows[i].r);
        CHECK_EQ(v, signed_rows[i].v);
    }
}

static void test_strings(void)
{
    char small[4];
    CHECK(dbx_strcpy(small, sizeof(small), "abc"));
    CHECK_STR(small, "abc");
    CHECK(!dbx_strcpy(small, sizeof(small), "abcd"));
    CHECK_STR(small, "abc");
    CHECK(dbx_streq(NULL, NULL) && !dbx_streq(NULL, "") && dbx_streq("a", "a"));
    CHECK(dbx_starts_with("abc", "ab") && dbx_starts_with("a", "") && !dbx_starts_with("a", "ab"));
    CHECK(dbx_equal_secret("abc", "abc", 3) && !dbx_equal_secret("abc", "abd", 3));
    CHECK(dbx_equal_secret("", "", 0));
}

static void test_hex(void)
{
    char text[9];
    uint8_t raw[4];
    dbx_hex_encode("\x00\x9f\xab\xff", 4, text);
    CHECK_STR(text, "009fabff");
    CHECK_EQ(dbx_hex_decode("009FabFF", 8, raw), 0);
    CHECK_EQ(memcmp(raw, "\x00\x9f\xab\xff", 4), 0);
    CHECK_EQ(dbx_hex_decode("0", 1, raw), -EINVAL);
    CHECK_EQ(dbx_hex_decode("0g", 2, raw), -EINVAL);
    CHECK_EQ(dbx_hex_decode("", 0, raw), 0);
}

/* RFC 4648, section 10 */
static void test_base64(void)
{
    static const struct {
        const char *plain, *coded, *url;
    } rows[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+", "-__-"},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++)
        for (int url = 0; url < 2; url++) {
            const char *coded = url ? rows[i].url : rows[i].coded;
            char text[16];
            uint8_t raw[16];
            size_t len = 0, plain = strlen(rows[i].plain);
            CHECK_EQ(dbx_base64_encode(rows[i].plain, plain, text, url), strlen(coded));
            CHECK_STR(text, coded);
            CHECK_EQ(dbx_base64_decode(coded, strlen(coded), raw, &len, url), 0);
            CHECK_EQ(len, plain);
            CHECK_EQ(memcmp(raw, rows[i].plain, plain), 0);
        }
    static const struct {
        const char *text;
        bool url;
    } bad[] = {{"Zg", false},    {"Zg=", false},  {"Zg==", true},      {"Z", true},
               {"=", false},     {"====", false}, {"Z===", false},     {"Zh==", false},
               {"Zh", true},     {"Zm9=", false}, {"Zg==Zg==", false}, {"Zm 9v", true},
               {"Zm9v\n", true}, {"-__-", false}, {"+//+", true},      {"Zm9v!AAA", false}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        uint8_t raw[16];
        size_t len;
        CHECK_EQ(dbx_base64_decode(bad[i].text, strlen(bad[i].text), raw, &len, bad[i].url),
                 -EINVAL);
    }
}

static void test_utf8(void)
{
    static const struct {
        const char *text;
        size_t prefix;
        bool incomplete;
    } rows[] = {
        {"", 0, false},
        {"plain ascii, more than eight", 28, false},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, false},
        {"\xf4\x8f\xbf\xbf\xef\xbf\xbf\xed\x9f\xbf", 10, false},
        {"a\xc3", 1, true},
        {"a\xe2\x82", 1, true},
        {"a\xf0\x9f\x98", 1, true},
        {"a\xf0", 1, true},
        {"a\xe0", 1, true},
        {"a\xc0\x80", 1, false},
        {"a\xc1", 1, false},
        {"a\xe0\x9f", 1, false},
        {"a\xed\xa0", 1, false},
        {"a\xf0\x8f", 1, false},
        {"a\xf4\x90", 1, false},
        {"a\xf5", 1, false},
        {"a\xff", 1, false},
        {"a\x80", 1, false},
        {"a\xe2\x28\xa1", 1, false},
        {"a\xe2\x82x", 1, false},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].text);
        bool incomplete;
        char *exact = dbx_malloc(len);
        memcpy(exact, rows[i].text, len);
        CHECK_EQ(dbx_utf8_prefix(exact, len, &incomplete), rows[i].prefix);
        CHECK_EQ(incomplete, rows[i].incomplete);
        CHECK_EQ(dbx_utf8_valid(exact, len), rows[i].prefix == len);
        dbx_freep(&exact);
    }
}

int main(void)
{
    test_numbers();
    test_strings();
    test_hex();
    test_base64();
    test_utf8();
    return check_result();
}

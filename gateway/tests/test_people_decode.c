/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "gateway/people_decode.h"
#include "tests/unit/check.h"

#include <string.h>

static struct gw_people_body b;
static struct dbx_err err;

static int decode(enum gw_people_kind kind, const char *text)
{
    err = (struct dbx_err){0};
    return gw_people_decode(kind, text, strlen(text), 1000000, &b, &err);
}

static void refuse(enum gw_people_kind kind, const char *text, const char *field)
{
    CHECK(decode(kind, text) < 0);
    CHECK_STR(err.field, field);
    CHECK_EQ(err.kind, DBX_INVALID);
}

static void test_good(void)
{
    CHECK_EQ(decode(GW_PEOPLE_REGISTER, "{\"email\":\"A@b.c\",\"password\":\"12345678\"}"), 0);
    CHECK_STR(b.email, "a@b.c");
    CHECK_STR(b.password, "12345678");
    gw_people_body_done(&b);
    CHECK_EQ(decode(GW_PEOPLE_KEY, ""), 0);
    CHECK_EQ(b.scopes, 0);
    gw_people_body_done(&b);
    CHECK_EQ(decode(GW_PEOPLE_KEY, "{\"name\":\"x\",\"scopes\":[\"run\",\"read\"],\"expires_at\":"
                                   "\"1970-01-01T00:00:01.5Z\"}"),
             0);
    CHECK_STR(b.label, "x");
    CHECK_EQ(b.scopes, GW_SCOPE_RUN | GW_SCOPE_READ);
    CHECK_EQ(b.expires_us, 1500000);
    gw_people_body_done(&b);
    CHECK_EQ(decode(GW_PEOPLE_USER, "{\"disabled\":true,\"max_running\":0}"), 0);
    CHECK(b.has_disabled && b.disabled);
    CHECK_EQ(b.max_running, 0);
    CHECK_EQ(b.max_workspaces, -1);
    gw_people_body_done(&b);
}

static void test_bad(void)
{
    refuse(GW_PEOPLE_REGISTER, "{\"email\":\"a@b\",\"password\":\"1234567\"}", "password");
    refuse(GW_PEOPLE_REGISTER, "{\"email\":\"ab\",\"password\":\"12345678\"}", "email");
    refuse(GW_PEOPLE_REGISTER, "{\"password\":\"12345678\"}", "email");
    refuse(GW_PEOPLE_REGISTER, "{\"email\":[],\"password\":\"12345678\"}", "email");
    refuse(GW_PEOPLE_LOGIN, "[]", "");
    refuse(GW_PEOPLE_LOGIN, "{\"email\":\"a@b\",\"password\":\"x\",\"role\":\"admin\"}", "role");
    refuse(GW_PEOPLE_KEY, "{\"scopes\":[\"all\"]}", "scopes");
    refuse(GW_PEOPLE_KEY, "{\"scopes\":[1]}", "scopes");
    refuse(GW_PEOPLE_KEY, "{\"scopes\":[]}", "scopes");
    refuse(GW_PEOPLE_KEY, "{\"expires_at\":\"1970-01-01T00:00:00Z\"}", "expires_at");
    refuse(GW_PEOPLE_MEMBER, "{\"role\":\"owner\"}", "role");
    refuse(GW_PEOPLE_LINK, "{\"role\":\"admin\"}", "role");
    refuse(GW_PEOPLE_USER, "{\"role\":\"owner\"}", "role");
    refuse(GW_PEOPLE_USER, "{\"disabled\":1}", "disabled");
    refuse(GW_PEOPLE_USER, "{\"max_running\":-1}", "max_running");
}

static void test_times(void)
{
    static const char *const bad[] = {"",
                                      "2030",
                                      "2030-13-01T00:00:00Z",
                                      "2030-02-30T00:00:00Z",
                                      "2030-01-01 00:00:00Z",
                                      "2030-01-01T00:00:00",
                                      "2030-01-01T24:00:00Z",
                                      "2030-01-01T00:00:00Zx",
                                      "2030-01-01T00:00:00+1:00",
                                      "1969-12-31T23:59:59Z",
                                      "2030-01-01T00:00:00+99:00"};
    int64_t us;
    CHECK_EQ(gw_time_parse("2026-11-22T01:02:03.456Z", &us), 0);
    CHECK_EQ(us, 1795309323456000);
    CHECK_EQ(gw_time_parse("2026-11-22T03:02:03+02:00", &us), 0);
    CHECK_EQ(us, 1795309323000000);
    CHECK_EQ(gw_time_parse("2028-02-29T00:00:00.123456789Z", &us), 0);
    CHECK_EQ(us % 1000000, 123456);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(gw_time_parse(bad[i], &us) < 0);
}

int main(void)
{
    test_good();
    test_bad();
    test_times();
    return check_result();
}

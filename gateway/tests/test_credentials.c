/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "gateway/credentials.h"
#include "tests/unit/check.h"

#include <string.h>

#define S43 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO-_"

static void test_scopes(void)
{
    static const char *const bad[] = {"x",         " ",    "read ",    " read",   "read  run",
                                      "read read", "Read", "read,run", "readrun", "read\trun"};
    uint32_t scopes = 99;
    char text[GW_SCOPES_TEXT];
    CHECK_EQ(gw_scopes_parse("", &scopes), 0);
    CHECK_EQ(scopes, 0);
    CHECK_EQ(gw_scopes_parse("run read", &scopes), 0);
    CHECK_EQ(scopes, GW_SCOPE_READ | GW_SCOPE_RUN);
    gw_scopes_text(scopes, text);
    CHECK_STR(text, "read run");
    gw_scopes_text(GW_SCOPE_ALL, text);
    CHECK_STR(text, "read write run account admin");
    CHECK_EQ(gw_scopes_parse(text, &scopes), 0);
    CHECK_EQ(scopes, GW_SCOPE_ALL);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(gw_scopes_parse(bad[i], &scopes) < 0);
    CHECK_EQ(gw_scope_named("admin"), GW_SCOPE_ADMIN);
    CHECK_EQ(gw_scope_named("adm"), 0);
}

static void test_emails(void)
{
    static const char *const bad[] = {"",        "a",     "@",     "a@",      "@b",    "a@b@c",
                                      "a b@c",   "a@b c", "a@b\n", "\"a\"@b", "a@.b",  "a@b.",
                                      "a@b\x7f", "<a@b>", "a/b@c", "a%40b@c", "\xff@b"};
    char out[GW_EMAIL_TEXT], longest[300];
    CHECK_EQ(gw_email_normalize("Ann.Lee+x@Example.ORG", out), 0);
    CHECK_STR(out, "ann.lee+x@example.org");
    CHECK_EQ(gw_email_normalize("j\xc3\xbcrg@b", out), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(gw_email_normalize(bad[i], out) < 0);
    memset(longest, 'a', sizeof(longest));
    longest[1] = '@';
    longest[254] = '\0';
    CHECK_EQ(gw_email_normalize(longest, out), 0);
    longest[254] = 'a';
    longest[255] = '\0';
    CHECK(gw_email_normalize(longest, out) < 0);
    CHECK_EQ(gw_email_of_path("Ann%40example.org", out), 0);
    CHECK_STR(out, "ann@example.org");
    CHECK_EQ(gw_email_of_path("a+b@c", out), 0);
    CHECK(gw_email_of_path("a%4", out) < 0);
    CHECK(gw_email_of_path("a%zz@b", out) < 0);
    CHECK(gw_email_of_path("a%00@b", out) < 0);
    CHECK(gw_email_of_path("a%2540b@c", out) < 0); /* decoded once */
}

static void test_cookies(void)
{
    char out[GW_SECRET_TEXT];
    CHECK(gw_cookie_secret("devbox=" S43, "devbox", out));
    CHECK_STR(out, S43);
    CHECK(gw_cookie_secret("a=b; devbox=" S43 "; c=d", "devbox", out));
    CHECK(gw_cookie_secret("a=b, devbox=" S43, "devbox", out));
    CHECK(!gw_cookie_secret("xdevbox=" S43, "devbox", out));
    CHECK(!gw_cookie_secret("__Host-devbox=" S43, "devbox", out));
    CHECK(gw_cookie_secret("devbox=" S43 "; __Host-devbox=" S43, "__Host-devbox", out));
    CHECK(!gw_cookie_secret("devbox=" S43 "x", "devbox", out));
    CHECK(!gw_cookie_secret("devbox=\"" S43 "\"", "devbox", out));
    CHECK(!gw_cookie_secret("devbox=; devbox=" S43, "devbox", out)); /* the first counts */
    CHECK(!gw_cookie_secret("", "devbox", out));
    CHECK(!gw_cookie_secret(NULL, "devbox", out));
    CHECK(!gw_cookie_secret(";;;,", "devbox", out));
}

static void test_secrets(void)
{
    char a[GW_SECRET_TEXT], b[GW_SECRET_TEXT], csrf[GW_CSRF_TEXT];
    uint8_t x[DBX_SHA256_LEN], y[DBX_SHA256_LEN];
    gw_secret_new(a);
    gw_secret_new(b);
    CHECK_EQ(strlen(a), GW_SECRET_LEN);
    CHECK(!dbx_streq(a, b));
    gw_secret_hash("session:", a, x);
    gw_secret_hash("recovery:", a, y);
    CHECK(memcmp(x, y, sizeof(x)) != 0);
    gw_csrf_token(a, csrf);
    CHECK(gw_csrf_matches(a, csrf));
    CHECK(!gw_csrf_matches(b, csrf));
    CHECK(!gw_csrf_matches(a, ""));
    CHECK(!gw_csrf_matches(a, NULL));
}

static void test_return_to(void)
{
    CHECK_STR(gw_return_to("/w/1?x=y#z"), "/w/1?x=y#z");
    CHECK_STR(gw_return_to(NULL), "/");
    CHECK_STR(gw_return_to("//evil"), "/");
    CHECK_STR(gw_return_to("/\\evil"), "/");
    CHECK_STR(gw_return_to("https://evil"), "/");
    CHECK_STR(gw_return_to("/a\r\nb"), "/");
}

int main(void)
{
    test_scopes();
    test_emails();
    test_cookies();
    test_secrets();
    test_return_to();
    return check_result();
}

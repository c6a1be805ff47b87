/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/url.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>

static void resolves(const char *base, const char *ref, const char *want)
{
    struct rc_url b, u;

    CHECK_EQ(rc_url_parse(base, &b), 0);
    int r = rc_url_resolve(&b, ref, &u);
    CHECK_EQ(r, want ? 0 : -EINVAL);
    if (r < 0 || !want)
        return;
    char *text = rc_url_text(&u);
    CHECK_STR(text, want);
    free(text);
}

static void test_parse(void)
{
    static const char *const bad[] = {
        "",           "ftp://h/x",    "file:///etc/passwd", "http://",
        "https:///x", "http://h:0/",  "http://h:99999/",    "http://h h/",
        "//h/x",      "http://h\n/x", "http://a%00b/"};
    struct rc_url u;

    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(rc_url_parse(bad[i], &u), -EINVAL);
    CHECK_EQ(rc_url_parse("HTTPS://User:p%40ss@H.Example:8443/a/../b?q#frag", &u), 0);
    CHECK(u.https && u.port == 8443);
    CHECK_STR(u.host, "h.example");
    CHECK_STR(u.path, "/b?q");
    CHECK_STR(u.userinfo, "User:p%40ss");
    CHECK_EQ(rc_url_parse("http://[::1]:80?x", &u), 0);
    CHECK_STR(u.host, "[::1]");
    CHECK_STR(u.path, "/?x");
}

static void test_resolve(void)
{
    const char *b = "https://h/a/b/c?q";

    resolves(b, "d", "https://h/a/b/d");
    resolves(b, "../d#x", "https://h/a/d");
    resolves(b, "../../../../d", "https://h/d");
    resolves(b, "./", "https://h/a/b/");
    resolves(b, "..", "https://h/a/");
    resolves(b, "/x/./y/..", "https://h/x/");
    resolves(b, "//other:81/z", "https://other:81/z");
    resolves(b, "http://h:80/z", "http://h/z");
    resolves(b, "?r", "https://h/a/b/c?r");
    resolves(b, "", "https://h/a/b/c?q");
    resolves(b, "file:///etc/passwd", NULL);
    resolves(b, "javascript:x", NULL);
    resolves(b, "https://user:pw@h/x", NULL);
    resolves(b, "a b", NULL);
}

static void names(const char *url, const char *want)
{
    struct rc_url u;
    char file[64];

    CHECK_EQ(rc_url_parse(url, &u), 0);
    int r = rc_url_basename(&u, file, sizeof(file));
    CHECK_EQ(r, want ? 0 : -EINVAL);
    if (r == 0 && want)
        CHECK_STR(file, want);
}

static void test_basename(void)
{
    names("https://h/a/b.tgz?x=/y", "b.tgz");
    names("https://h/a%2Bb", "a+b");
    names("https://h/", NULL);
    names("https://h/a%2fb", NULL);
    names("https://h/%2e%2e", NULL);
    names("https://h/a%00", NULL);
    names("https://h/%zz", NULL);
    names("https://h/0123456789012345678901234567890123456789012345678901234567890123456789", NULL);
}

int main(void)
{
    test_parse();
    test_resolve();
    test_basename();
    return check_result();
}

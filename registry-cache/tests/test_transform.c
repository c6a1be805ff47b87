/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "registry-cache/links.h"
#include "registry-cache/transform.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct dbx_buf out;

/* Fed in pieces of 1, 7 and everything at once: always the same. Returns the result. */
static int run(enum rc_form form, bool html, const char *text)
{
    static const size_t steps[] = {1, 7, 1 << 20};
    DBX_CLEANUP(dbx_freep) char *first = NULL;
    struct rc_url from;
    int r = 0;

    CHECK_EQ(rc_url_parse("https://up.example/simple/six/", &from), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(steps); i++) {
        struct rc_transform_opts opts = {
            .form = form, .html = html, .name = "six", .base = "http://me:1", .from = &from};
        struct rc_transform *t = rc_transform_new(&opts);
        dbx_buf_done(&out);
        dbx_buf_init(&out, 1 << 20);
        r = 0;
        for (size_t at = 0, n; text[at] && r == 0; at += n) {
            n = strnlen(text + at, steps[i]);
            r = rc_transform_feed(t, text + at, n, &out);
        }
        if (r == 0)
            r = rc_transform_end(t, &out);
        rc_transform_free(t);
        if (!first)
            first = dbx_strdup(dbx_buf_cstr(&out));
        else if (r == 0)
            CHECK_STR(dbx_buf_cstr(&out), first);
    }
    return r;
}

static void gives(enum rc_form form, bool html, const char *text, const char *want)
{
    CHECK_EQ(run(form, html, text), 0);
    CHECK_STR(dbx_buf_cstr(&out), want);
}

static void test_npm(void)
{
    static const char doc[] =
        "{\"name\":\"six\", \"dist-tags\": {\"latest\":\"1.0.0\"},\"versions\":{\"1.0.0\":{\"x\":"
        "\"tarball\",\"dist\":{\"integrity\":\"sha1-x sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/"
        "SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\",\"shasum\":"
        "\"da39a3ee5e6b4b0d3255bfef95601890afd80709\",\"tarball\":\"https:\\/\\/cdn.example\\/"
        "six-1.0.0.tgz\"}}},\"dist\":{}, \"n\" : [1e5,-2.5,true,null,\"\\u00e9\"]}\n";
    struct rc_link link;

    gives(RC_FORM_NPM, false, doc,
          "{\"name\":\"six\", \"dist-tags\": {\"latest\":\"1.0.0\"},\"versions\":{\"1.0.0\":{\"x\":"
          "\"tarball\",\"dist\":{\"integrity\":\"sha1-x sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/"
          "SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==\",\"shasum\":"
          "\"da39a3ee5e6b4b0d3255bfef95601890afd80709\",\"tarball\":\"http://me:1/npm/six/-/"
          "six-1.0.0.tgz\"}}},\"dist\":{}, \"n\" : [1e5,-2.5,true,null,\"\\u00e9\"]}\n");
    gives(RC_FORM_NPM_TAGS, false, doc, "{\"latest\":\"1.0.0\"}");
    CHECK_EQ(run(RC_FORM_NPM_LINKS, false, doc), 0);
    CHECK_EQ(rc_links_find(out.data, out.len, "six-1.0.0.tgz", &link), 0);
    CHECK_STR(link.url, "https://cdn.example/six-1.0.0.tgz");
    CHECK(link.digest.known && link.digest.kind == DBX_HASH_SHA512);
    CHECK_EQ(link.digest.bytes[0], 0xcf);
    rc_link_done(&link);
    CHECK_EQ(rc_links_find(out.data, out.len, "six-1.0.0", &link), -ENOENT);
    gives(RC_FORM_NPM, false, "{\"dist\":{\"tarball\":\"a/b%2bc.tgz\"}}",
          "{\"dist\":{\"tarball\":\"http://me:1/npm/six/-/b+c.tgz\"}}");
    gives(RC_FORM_NPM, false, "{\"dist\":{\"tarball\":\"file:///etc/passwd\",\"tarball\":7}}",
          "{\"dist\":{\"tarball\":\"file:///etc/passwd\",\"tarball\":7}}");
    gives(RC_FORM_NPM_LINKS, false, "{\"dist\":{\"tarball\":\"https://h/%2e%2e\"}}", "");
}

static void test_bad_json(void)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "[1,]",
                                      "{,}",
                                      "[1 2]",
                                      "{\"a\":1}}",
                                      "[}",
                                      "tru",
                                      "nulll",
                                      "\"a",
                                      "[\"\\x\"]",
                                      "[\"\\u12g4\"]",
                                      "{\"a\" 1}",
                                      "[01a]",
                                      "\"a\nb\"",
                                      "{\"dist\":{\"tarball\":\"\\ud800\"}}",
                                      "{\"dist\":{\"tarball\":\"\\u0000\"}}"};
    char deep[400];

    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(run(RC_FORM_NPM, false, bad[i]), -EBADMSG);
    memset(deep, '[', sizeof(deep));
    deep[sizeof(deep) - 1] = '\0';
    CHECK_EQ(run(RC_FORM_NPM, false, deep), -EBADMSG);
    CHECK_EQ(run(RC_FORM_NPM, false, "12"), 0);
    CHECK_EQ(run(RC_FORM_NPM, false, " [ ] "), 0);
}

static const char json[] =
    "{\"meta\":{\"api-version\":\"1.1\"},\"name\":\"six\",\"files\":[{\"filename\":\"six-1.whl\","
    "\"url\":\"https://f.example/p/six-1.whl\",\"hashes\":{\"md5\":\"x\",\"sha256\":\"" HEX64
    "\"},\"requires-python\":\">=3\",\"yanked\":\"it's "
    "<bad>\",\"core-metadata\":{\"sha256\":\"" HEX64
    "\"},\"size\":1},{\"filename\":\"six-2.tgz\",\"url\":\"../../f/six-2.tgz\",\"hashes\":{},"
    "\"yanked\":false,\"core-metadata\":false}],\"versions\":[\"1\"]}";

static void test_pypi(void)
{
    static const char html[] =
        "<html><!-- <a href=\"no.whl\"> --><body><a "
        "href=\"https://f.example/p/six-1.whl#sha256=" HEX64
        "\" data-requires-python=\"&gt;=3\" data-yanked=\"it&#39;s &lt;bad&gt;\" "
        "data-core-metadata='sha256=" HEX64 "'>x</a><A HREF=../../f/six-2.tgz>y</A></body></html>";
    struct rc_link link;

    gives(
        RC_FORM_PYPI_JSON, false, json,
        "{\"meta\":{\"api-version\":\"1.1\"},\"name\":\"six\",\"files\":[{\"filename\":\"six-1."
        "whl\",\"url\":\"../../files/six/six-1.whl\",\"hashes\":{\"md5\":\"x\",\"sha256\":\"" HEX64
        "\"},\"requires-python\":\">=3\",\"yanked\":\"it's "
        "<bad>\",\"core-metadata\":{\"sha256\":\"" HEX64
        "\"},\"size\":1},{\"filename\":\"six-2.tgz\",\"url\":\"../../files/six/"
        "six-2.tgz\",\"hashes\":{},\"yanked\":false,\"core-metadata\":false}],\"versions\":["
        "\"1\"]}");
    CHECK_EQ(run(RC_FORM_PYPI_HTML, false, json), 0);
    DBX_CLEANUP(dbx_freep) char *page = dbx_strdup(dbx_buf_cstr(&out));
    CHECK(strstr(page, "<a href=\"../../files/six/six-1.whl#sha256=" HEX64
                       "\" data-requires-python=\"&gt;=3\" data-yanked=\"it's &lt;bad&gt;\" "
                       "data-core-metadata=\"sha256=" HEX64 "\""));
    CHECK(strstr(page, "<a href=\"../../files/six/six-2.tgz\">six-2.tgz</a>"));
    gives(RC_FORM_PYPI_HTML, true, html, page);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(run(RC_FORM_PYPI_LINKS, i, i ? html : json), 0);
        CHECK_EQ(rc_links_find(out.data, out.len, "six-1.whl", &link), 0);
        CHECK_STR(link.url, "https://f.example/p/six-1.whl");
        CHECK(link.digest.known && link.digest.kind == DBX_HASH_SHA256 && link.metadata.known);
        rc_link_done(&link);
        CHECK_EQ(rc_links_find(out.data, out.len, "six-2.tgz", &link), 0);
        CHECK_STR(link.url, "https://up.example/f/six-2.tgz");
        CHECK(!link.digest.known && !link.has_metadata);
        rc_link_done(&link);
    }
    gives(RC_FORM_PYPI_JSON, true, html,
          "{\"meta\":{\"api-version\":\"1.0\"},\"name\":\"six\",\"files\":[{\"filename\":\"six-1."
          "whl\",\"url\":\"../../files/six/six-1.whl\",\"hashes\":{\"sha256\":\"" HEX64
          "\"},\"requires-python\":\">=3\",\"yanked\":\"it's "
          "<bad>\",\"core-metadata\":{\"sha256\":\"" HEX64
          "\"}},{\"filename\":\"six-2.tgz\",\"url\":\"../../files/six/six-2.tgz\",\"hashes\":{}}]}"
          "\n");
    CHECK_EQ(run(RC_FORM_PYPI_HTML, true, "<a href=\"x"), -EBADMSG);
    gives(RC_FORM_PYPI_LINKS, true, "<a><a href=\"\"><a href='..'><b><a href=\"a%2f.whl\">", "");
    CHECK_EQ(run(RC_FORM_PYPI_LINKS, true, "<base href=\"/b/\"><a href=\"s.whl\">"), 0);
    CHECK(strstr(dbx_buf_cstr(&out), "s.whl\thttps://up.example/b/s.whl\t-\t-\n"));
}

static void test_crates(void)
{
    gives(RC_FORM_CRATE_LINKS, false,
          "{\"vers\":\"1.0.0\",\"deps\":[{\"vers\":\"9\"}],\"cksum\":\"" HEX64
          "\"}\n\n{\"vers\":\"2.0.0\",\"cksum\":\"short\"}\n{\"cksum\":\"" HEX64
          "\",\"vers\":\"3.0.0\"}",
          "1.0.0\t\tsha256:" HEX64 "\t-\n3.0.0\t\tsha256:" HEX64 "\t-\n");
    CHECK_EQ(run(RC_FORM_CRATE_LINKS, false, "{\"vers\":\"1.0.0\"\n}"), -EBADMSG);
    gives(RC_FORM_COPY, false, "anything", "anything");
}

int main(void)
{
    test_npm();
    test_bad_json();
    test_pypi();
    test_crates();
    dbx_buf_done(&out);
    return check_result();
}

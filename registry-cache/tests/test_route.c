/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/route.h"
#include "tests/unit/check.h"

static void is(const char *path, enum rc_what what, const char *name, const char *version,
               const char *file)
{
    struct rc_route rt;
    const char *why;

    if (rc_route_parse(path, &rt, &why) != 0) {
        fprintf(stderr, "%s: %s\n", path, why);
        CHECK(!"refused");
        return;
    }
    CHECK_EQ(rt.what, what);
    CHECK_STR(rt.name, name);
    CHECK_STR(rt.version, version);
    CHECK_STR(rt.file, file);
}

static void refused(const char *path, int status)
{
    struct rc_route rt;
    const char *why;
    int got = rc_route_parse(path, &rt, &why);

    if (got != status)
        fprintf(stderr, "%s\n", path);
    CHECK_EQ(got, status);
}

static void test_npm(void)
{
    is("/npm/express", RC_NPM_PACKUMENT, "express", "", "");
    is("/npm/express/", RC_NPM_PACKUMENT, "express", "", "");
    is("/npm/@babel%2fcore", RC_NPM_PACKUMENT, "@babel/core", "", "");
    is("/npm/@babel%2Fcore", RC_NPM_PACKUMENT, "@babel/core", "", "");
    is("/npm/%40babel%2fcore", RC_NPM_PACKUMENT, "@babel/core", "", "");
    is("/npm/@babel/core", RC_NPM_PACKUMENT, "@babel/core", "", "");
    is("/npm/constructor", RC_NPM_PACKUMENT, "constructor", "", "");
    is("/npm/JSONStream", RC_NPM_PACKUMENT, "JSONStream", "", "");
    is("/npm/express/4.0.0", RC_NPM_VERSION, "express", "4.0.0", "");
    is("/npm/@a/b/latest", RC_NPM_VERSION, "@a/b", "latest", "");
    is("/npm/express/-/express-4.0.0.tgz", RC_NPM_TARBALL, "express", "", "express-4.0.0.tgz");
    is("/npm/@a/b/-/b-1.0.0.tgz", RC_NPM_TARBALL, "@a/b", "", "b-1.0.0.tgz");
    is("/express/-/express-4.0.0.tgz", RC_NPM_TARBALL, "express", "", "express-4.0.0.tgz");
    is("/@a/b/-/b-1.0.0.tgz", RC_NPM_TARBALL, "@a/b", "", "b-1.0.0.tgz");
    is("/npm/-/package/@a%2fb/dist-tags", RC_NPM_TAGS, "@a/b", "", "");
    is("/npm/-/ping", RC_NPM_PING, "", "", "");
    is("/npm/-/v1/search", RC_NPM_SEARCH, "", "", "");
    is("/npm/-/npm/v1/security/advisories/bulk", RC_NPM_AUDIT, "", "",
       "-/npm/v1/security/advisories/bulk");
    refused("/npm/", 404);
    refused("/npm/@a", 404);
    refused("/npm/__proto__", 400);
    refused("/npm/.hidden", 400);
    refused("/npm/a%2fb", 400);
    refused("/npm/@a%2fb%2fc", 400);
    refused("/npm/@%2fb", 400);
    refused("/npm/@a/..", 400);
    refused("/npm/express/-/", 404);
    refused("/npm/express/-/..%2fx", 400);
    refused("/npm/-/user/org.couchdb.user:x", 404);
    refused("/npm/a%00b", 400);
    refused("/npm/\xc3\xa9", 400);
    refused("/npm/%c3%a9", 400);
    refused("/npm/a//b", 400);
    refused("/npm/%2e%2e/x", 400);
    refused("/npm/../x", 400);
    refused("/npm/a%5cb", 400);
    refused("/npm/a%2", 400);
}

static void test_pypi(void)
{
    struct rc_route rt;
    const char *why;

    is("/pypi/simple/", RC_PYPI_ROOT, "", "", "");
    is("/pypi/simple/Foo._-Bar/", RC_PYPI_INDEX, "foo-bar", "", "");
    is("/pypi/files/foo/Foo-1.0%2Bcpu-py3.whl", RC_PYPI_FILE, "foo", "", "Foo-1.0+cpu-py3.whl");
    is("/pypi/files/foo/f-1.whl.metadata", RC_PYPI_METADATA, "foo", "", "f-1.whl");
    CHECK_EQ(rc_route_parse("/pypi/simple/six", &rt, &why), 0);
    CHECK(rt.slash);
    refused("/pypi/simple/-a/", 400);
    refused("/pypi/simple/a%20b/", 400);
    refused("/pypi/files/foo/..%2fx", 400);
    refused("/pypi/files/foo", 404);
    refused("/pypi/other/x/y", 404);
}

static void test_go(void)
{
    is("/go/golang.org/x/text/@v/list", RC_GO_MOVING, "golang.org/x/text", "", "@v/list");
    is("/go/github.com/!burnt!sushi/toml/@v/v1.2.3.zip", RC_GO_FIXED,
       "github.com/!burnt!sushi/toml", "", "@v/v1.2.3.zip");
    is("/go/a.b/c/@v/v2.0.0+incompatible.mod", RC_GO_FIXED, "a.b/c", "",
       "@v/v2.0.0+incompatible.mod");
    is("/go/a.b/c/@v/master.info", RC_GO_MOVING, "a.b/c", "", "@v/master.info");
    is("/go/a.b/c/@v/v1.info", RC_GO_MOVING, "a.b/c", "", "@v/v1.info");
    is("/go/a.b/c/@latest", RC_GO_MOVING, "a.b/c", "", "@latest");
    is("/go/sumdb/s.org/tile/8/0/x001/234.p/5", RC_GO_SUMDB, "s.org", "", "tile/8/0/x001/234.p/5");
    is("/go/sumdb/s.org/lookup/a.b/c@v1.0.0", RC_GO_SUMDB, "s.org", "", "lookup/a.b/c@v1.0.0");
    refused("/go/@v/list", 404);
    refused("/go/a.b/@v/x", 404);
    refused("/go/a.b/@v/x.exe", 404);
    refused("/go/a.b/../@v/list", 400);
    refused("/go/a.b%2fc/@v/list", 400);
    refused("/go/a.b/@v/list/x", 404);
}

static void test_crates(void)
{
    is("/crates/config.json", RC_CRATES_CONFIG, "", "", "");
    is("/crates/se/rd/serde", RC_CRATES_INDEX, "serde", "", "");
    is("/crates/Se/rd/Serde", RC_CRATES_INDEX, "serde", "", "");
    is("/crates/3/a/abc", RC_CRATES_INDEX, "abc", "", "");
    is("/crates/2/ab", RC_CRATES_INDEX, "ab", "", "");
    is("/crates/1/a", RC_CRATES_INDEX, "a", "", "");
    is("/crates/api/v1/crates/serde_json/1.0.0-rc.1+x/download", RC_CRATES_DOWNLOAD, "serde_json",
       "1.0.0-rc.1+x", "");
    refused("/crates/se/xx/serde", 404);
    refused("/crates/serde", 404);
    refused("/crates/3/a/ab.c", 400);
    refused("/crates/api/v1/crates/serde/..%2f/download", 400);
    refused("/crates/api/v1/crates/serde/x/download", 400);
}

static void test_others(void)
{
    char hex[80] = "/blobs/sha256/", longest[3000];

    memset(hex + 14, 'A', 64);
    is(hex, RC_BLOB, "", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    hex[20] = 'g';
    refused(hex, 400);
    char layer[80] = "/layers/";
    memset(layer + 8, '0', 64);
    is(layer, RC_LAYER, "", "", layer + 8);
    refused("/layers/0", 400);
    refused("/layers/a/b", 404);
    is("/healthz", RC_HEALTH, "", "", "");
    is("/metrics", RC_METRICS, "", "", "");
    refused("/", 404);
    refused("*", 400);
    refused("/nothing/of/ours", 404);
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    refused(longest, 400);
    memcpy(longest, "/npm/", 5);
    longest[300] = '\0';
    refused(longest, 400);
}

int main(void)
{
    test_npm();
    test_pypi();
    test_go();
    test_crates();
    test_others();
    return check_result();
}

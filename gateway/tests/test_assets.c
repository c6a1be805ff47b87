/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/assets.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "tests/unit/check.h"

static void put(const char *dir, const char *name, const char *text)
{
    char path[PATH_MAX];
    struct dbx_err err = {0};
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    CHECK_EQ(dbx_fs_write_atomic(path, text, strlen(text), 0600, &err), 0);
}

static void test_folder(const char *dir)
{
    struct gw_assets *as = NULL;
    struct dbx_err err = {0};
    char sub[PATH_MAX];
    snprintf(sub, sizeof(sub), "%s/assets", dir);
    CHECK_EQ(dbx_fs_mkdirs(sub, 0700, &err), 0);
    put(dir, "index.html", "page");
    put(dir, "index.html.br", "br");
    put(dir, "icon.svg", "icon");
    put(dir, "secret", "no type");
    put(sub, "app-1a.js", "code");
    put(sub, "app-1a.js.br", "b");
    put(sub, "app-1a.js.gz", "gz");
    CHECK_EQ(gw_assets_load(dir, &as, &err), 0);

    const struct gw_asset *page = gw_assets_find(as, "index.html");
    const struct gw_asset *app = gw_assets_find(as, "assets/app-1a.js");
    CHECK(page && !page->immutable && app && app->immutable);
    CHECK_STR(page->type, "text/html; charset=utf-8");
    CHECK_STR(app->type, "text/javascript; charset=utf-8");
    CHECK(strcmp(app->body[GW_IDENTITY].etag, app->body[GW_GZIP].etag) != 0);
    CHECK_EQ(strlen(app->body[GW_BROTLI].etag), 34u);
    CHECK_EQ(gw_asset_choose(page, "gzip, br"), GW_BROTLI);
    CHECK_EQ(gw_asset_choose(page, "gzip"), GW_IDENTITY);
    static const char *const absent[] = {"secret",        "",
                                         "assets",        "assets/",
                                         "../icon.svg",   "assets/../icon.svg",
                                         "/icon.svg",     "app-1a.js",
                                         "index.html.br", "assets/app-1a.js.gz"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(absent); i++)
        CHECK(!gw_assets_find(as, absent[i]));

    static const struct {
        const char *accept;
        enum gw_coding coding;
    } choices[] = {{NULL, GW_IDENTITY},
                   {"", GW_IDENTITY},
                   {"br", GW_BROTLI},
                   {"gzip, deflate, br, zstd", GW_BROTLI},
                   {"GZIP", GW_GZIP},
                   {"brotli", GW_IDENTITY},
                   {"x-gzip", GW_IDENTITY},
                   {"br;q=0, gzip", GW_GZIP},
                   {"br; q=0.000,gzip;q=0.5", GW_GZIP},
                   {"br;q=0.1", GW_BROTLI},
                   {"br;q=0,gzip ; q=0", GW_IDENTITY},
                   {",,; ,br", GW_BROTLI}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(choices); i++)
        CHECK_EQ(gw_asset_choose(app, choices[i].accept), choices[i].coding);
    gw_assets_free(as);
}

int main(void)
{
    struct dbx_err err = {0};
    struct gw_assets *as = NULL;
    char dir[] = "/tmp/test-assets-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    test_folder(dir);
    CHECK_EQ(dbx_fs_remove_tree(dir, &err), 0);
    CHECK(gw_assets_load(dir, &as, &err) < 0);
    CHECK_EQ(gw_assets_load("", &as, &err), 0);
    CHECK(!gw_assets_find(as, "index.html"));
    gw_assets_free(as);

    CHECK(gw_etag_matches("\"a\"", "\"a\"") && gw_etag_matches("\"b\", W/\"a\" ", "\"a\""));
    CHECK(gw_etag_matches("*", "\"a\""));
    CHECK(!gw_etag_matches(NULL, "\"a\"") && !gw_etag_matches("", "\"a\"") &&
          !gw_etag_matches("\"aa\",a", "\"a\""));
    return 0;
}

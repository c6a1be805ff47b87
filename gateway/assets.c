/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/assets.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/fs.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"

#define MAX_FILE (16u << 20)
#define MAX_FILES 2000u

struct gw_assets {
    struct dbx_map *files; /* name -> struct gw_asset, owned */
};

static const char *type_of(const char *name)
{
    static const struct {
        const char *ext, *type;
    } types[] = {{".html", "text/html; charset=utf-8"},
                 {".js", "text/javascript; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},
                 {".svg", "image/svg+xml"},
                 {".png", "image/png"},
                 {".ttf", "font/ttf"},
                 {".woff2", "font/woff2"},
                 {".json", "application/json"},
                 {".txt", "text/plain; charset=utf-8"}};
    const char *ext = strrchr(name, '.');
    for (size_t i = 0; ext && i < DBX_ARRAY_LEN(types); i++)
        if (dbx_streq(ext, types[i].ext))
            return types[i].type;
    return NULL;
}

static void free_asset(struct gw_asset *a)
{
    for (size_t i = 0; i < GW_CODINGS; i++)
        dbx_buf_done(&a->body[i].data);
    free(a);
}

static void make_etag(struct gw_asset_body *b)
{
    uint8_t hash[DBX_SHA256_LEN];
    char hex[2 * 16 + 1];
    dbx_sha256(b->data.data, b->data.len, hash);
    dbx_hex_encode(hash, 16, hex);
    snprintf(b->etag, sizeof(b->etag), "\"%s\"", hex);
}

static int read_body(struct gw_asset_body *b, const char *path, struct dbx_err *err)
{
    int r = dbx_fs_read(path, MAX_FILE, &b->data, err);
    if (r == 0)
        make_etag(b);
    return r;
}

/* A compressed neighbour may be missing. */
static int read_coding(struct gw_asset_body *b, const char *path, const char *suffix,
                       struct dbx_err *err)
{
    char name[PATH_MAX + 8];
    struct stat st;
    snprintf(name, sizeof(name), "%s%s", path, suffix);
    return stat(name, &st) < 0 ? 0 : read_body(b, name, err);
}

static int add_file(struct gw_assets *as, const char *path, const char *name, struct dbx_err *err)
{
    struct gw_asset *a = DBX_NEW(struct gw_asset);
    for (size_t i = 0; i < GW_CODINGS; i++)
        dbx_buf_init(&a->body[i].data, MAX_FILE);
    a->type = type_of(name);
    a->immutable = dbx_starts_with(name, "assets/");
    struct gw_asset *before = dbx_map_put(as->files, name, strlen(name), a);
    dbx_assert(!before);
    if (dbx_map_count(as->files) > MAX_FILES)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "more than %u files", MAX_FILES);
    int r = read_body(&a->body[GW_IDENTITY], path, err);
    if (r == 0)
        r = read_coding(&a->body[GW_GZIP], path, ".gz", err);
    if (r == 0)
        r = read_coding(&a->body[GW_BROTLI], path, ".br", err);
    return r;
}

static void closedirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* prefix: "" or "assets/". */
static int add_folder(struct gw_assets *as, const char *dir, const char *prefix,
                      struct dbx_err *err)
{
    char path[PATH_MAX], name[NAME_MAX + 16];
    DBX_CLEANUP(closedirp) DIR *d = opendir(dir);
    int r = d ? 0 : dbx_err_sys(err, "folder of the IDE '%s'", dir);
    for (struct dirent *de; r == 0 && (de = readdir(d));) {
        if (!type_of(de->d_name) || de->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s%s", prefix, de->d_name);
        int len = snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
        if (len < 0 || (size_t)len >= sizeof(path))
            return dbx_err_set(err, -ENAMETOOLONG, DBX_INVALID, "'%s': too long a path", dir);
        r = add_file(as, path, name, err);
    }
    return r;
}

int gw_assets_load(const char *dir, struct gw_assets **ret, struct dbx_err *err)
{
    char assets[PATH_MAX];
    struct gw_assets *as = DBX_NEW(struct gw_assets);
    as->files = dbx_map_new();
    int r = *dir ? add_folder(as, dir, "", err) : 0;
    snprintf(assets, sizeof(assets), "%s/assets", dir);
    if (r == 0 && *dir)
        r = add_folder(as, assets, "assets/", err);
    if (r < 0) {
        gw_assets_free(as);
        return r;
    }
    *ret = as;
    return 0;
}

struct gw_assets *gw_assets_free(struct gw_assets *as)
{
    if (!as)
        return NULL;
    struct dbx_map_iter it = {0};
    while (dbx_map_next(as->files, &it))
        free_asset(it.value);
    dbx_map_free(as->files);
    free(as);
    return NULL;
}

const struct gw_asset *gw_assets_find(const struct gw_assets *as, const char *name)
{
    return DBX_MAP_GET_STR(as->files, name);
}

/* The next element of a comma-separated list: its length without the spaces around it. */
static const char *next_element(const char **list, size_t *len)
{
    *list += strspn(*list, ", \t");
    const char *element = *list;
    *len = strcspn(element, ",");
    *list += *len;
    while (*len > 0 && (element[*len - 1] == ' ' || element[*len - 1] == '\t'))
        (*len)--;
    return *element ? element : NULL;
}

/* "q=0", "q=0.0" ... refuse a coding; any other weight takes it. */
static bool refused(const char *params, size_t len)
{
    static const char weight[] = "q=";
    while (len > 0 && strchr("; \t", *params))
        params++, len--;
    if (len < 3 || strncasecmp(params, weight, 2) != 0)
        return false;
    return strspn(params + 2, "0.") >= len - 2;
}

static bool accepts(const char *list, const char *coding)
{
    size_t len, name = strlen(coding);
    for (const char *e; list && (e = next_element(&list, &len));)
        if (len >= name && strncasecmp(e, coding, name) == 0 &&
            (len == name || strchr("; \t", e[name])))
            return !refused(e + name, len - name);
    return false;
}

enum gw_coding gw_asset_choose(const struct gw_asset *a, const char *accept_encoding)
{
    if (a->body[GW_BROTLI].data.len > 0 && accepts(accept_encoding, "br"))
        return GW_BROTLI;
    if (a->body[GW_GZIP].data.len > 0 && accepts(accept_encoding, "gzip"))
        return GW_GZIP;
    return GW_IDENTITY;
}

bool gw_etag_matches(const char *if_none_match, const char *etag)
{
    size_t len;
    for (const char *e; if_none_match && (e = next_element(&if_none_match, &len));) {
        if (len >= 2 && strncmp(e, "W/", 2) == 0)
            e += 2, len -= 2;
        if ((len == strlen(etag) && memcmp(e, etag, len) == 0) || (len == 1 && *e == '*'))
            return true;
    }
    return false;
}

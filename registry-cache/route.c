/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/route.h"
#include "common/base/str.h"
#include "registry-cache/url.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_PATH 2048
#define MAX_SEGMENTS 64
#define MAX_NPM_NAME 214

const char *const rc_eco_names[RC_ECOS] = {"npm", "pypi", "go", "crates"};

/* The path, cut at its slashes and decoded. */
struct parts {
    size_t n;
    const char *s[MAX_SEGMENTS];
    char text[MAX_PATH + MAX_SEGMENTS];
    bool slash; /* at the end */
};

static int refuse(const char **ret_why, int status, const char *why)
{
    *ret_why = why;
    return status;
}

static int not_found(const char **ret_why)
{
    return refuse(ret_why, 404, "there is nothing of that name here");
}

/* --- names --- */

static bool all_of(const char *s, const char *more)
{
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              strchr(more, *s)))
            return false;
    return true;
}

static bool npm_part_valid(const char *s)
{
    return *s && *s != '.' && *s != '_' && all_of(s, "-_.~!*'()");
}

bool rc_npm_name_valid(const char *name)
{
    const char *slash = strchr(name, '/');
    char scope[MAX_NPM_NAME + 1];

    if (strlen(name) > MAX_NPM_NAME)
        return false;
    if (*name != '@')
        return !slash && npm_part_valid(name) && *name != '-';
    if (!slash)
        return false;
    memcpy(scope, name + 1, (size_t)(slash - name - 1));
    scope[slash - name - 1] = '\0';
    return npm_part_valid(scope) && npm_part_valid(slash + 1);
}

bool rc_crate_name_valid(const char *name)
{
    return strlen(name) <= 64 && all_of(name, "-_") &&
           ((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z'));
}

int rc_pypi_normalize(const char *name, char *out, size_t size)
{
    size_t n = 0;

    if (!*name || strchr("-_.", *name) || strchr("-_.", name[strlen(name) - 1]) ||
        !all_of(name, "-_."))
        return -EINVAL;
    for (; *name; name++) {
        bool dash = strchr("-_.", *name);
        if (dash && n && out[n - 1] == '-')
            continue;
        if (n + 1 >= size || n >= 128)
            return -EINVAL;
        out[n++] = dash ? '-' : *name >= 'A' && *name <= 'Z' ? (char)(*name + 32) : *name;
    }
    out[n] = '\0';
    return 0;
}

void rc_crate_prefix(const char *name, char out[static 8])
{
    size_t len = strlen(name);

    if (len <= 2)
        (void)snprintf(out, 8, "%zu/", len);
    else if (len == 3)
        (void)snprintf(out, 8, "3/%c/", name[0]);
    else
        (void)snprintf(out, 8, "%.2s/%.2s/", name, name + 2);
}

/* --- npm --- */

static bool same(const struct parts *p, size_t at, const char *const *want, size_t n)
{
    if (p->n != at + n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(p->s[at + i], want[i]) != 0)
            return false;
    return true;
}
#define SAME(p, at, ...)                                                                           \
    same((p), (at), (const char *const[]){__VA_ARGS__},                                            \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* "name", "@scope/name", and "@scope%2fname", which arrives as one segment. *at goes behind it. */
static int npm_name(const struct parts *p, size_t *at, struct rc_route *ret, const char **ret_why)
{
    const char *first = p->s[*at];
    bool two = *first == '@' && !strchr(first, '/');

    if (two && *at + 1 >= p->n)
        return refuse(ret_why, 404, "a scope is not a package");
    int n = two ? snprintf(ret->name, sizeof(ret->name), "%s/%s", first, p->s[*at + 1])
                : snprintf(ret->name, sizeof(ret->name), "%s", first);
    if (n < 0 || (size_t)n >= sizeof(ret->name) || !rc_npm_name_valid(ret->name))
        return refuse(ret_why, 400, "this is not a package's name");
    *at += two ? 2 : 1;
    return 0;
}

static int npm_special(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why)
{
    static const char *const audits[] = {"-/npm/v1/security/advisories/bulk",
                                         "-/npm/v1/security/audits/quick",
                                         "-/npm/v1/security/audits"};

    if (SAME(p, at, "ping")) {
        ret->what = RC_NPM_PING;
        return 0;
    }
    if (SAME(p, at, "v1", "search")) {
        ret->what = RC_NPM_SEARCH;
        return 0;
    }
    if (SAME(p, at, "npm", "v1", "security", "advisories", "bulk") ||
        SAME(p, at, "npm", "v1", "security", "audits", "quick") ||
        SAME(p, at, "npm", "v1", "security", "audits")) {
        ret->what = RC_NPM_AUDIT;
        (void)dbx_strcpy(ret->file, sizeof(ret->file),
                         audits[strcmp(p->s[p->n - 1], "bulk") == 0    ? 0
                                : strcmp(p->s[p->n - 1], "quick") == 0 ? 1
                                                                       : 2]);
        return 0;
    }
    if (p->n > at + 2 && strcmp(p->s[at], "package") == 0) {
        size_t i = at + 1;
        int status = npm_name(p, &i, ret, ret_why);
        if (status)
            return status;
        if (SAME(p, i, "dist-tags")) {
            ret->what = RC_NPM_TAGS;
            return 0;
        }
    }
    return not_found(ret_why);
}

static int route_npm(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why)
{
    ret->eco = RC_NPM;
    if (at >= p->n)
        return not_found(ret_why);
    if (strcmp(p->s[at], "-") == 0)
        return npm_special(p, at + 1, ret, ret_why);
    int status = npm_name(p, &at, ret, ret_why);
    if (status)
        return status;
    if (at == p->n) {
        ret->what = RC_NPM_PACKUMENT;
        return 0;
    }
    if (at + 2 == p->n && strcmp(p->s[at], "-") == 0) {
        ret->what = RC_NPM_TARBALL;
        return dbx_strcpy(ret->file, 256, p->s[at + 1])
                   ? 0
                   : refuse(ret_why, 400, "the name of the file is too long");
    }
    if (at + 1 != p->n || strcmp(p->s[at], "-") == 0)
        return not_found(ret_why);
    ret->what = RC_NPM_VERSION;
    if (!dbx_strcpy(ret->version, sizeof(ret->version), p->s[at]) || !all_of(p->s[at], "-._+~^"))
        return refuse(ret_why, 400, "this is neither a version nor a tag");
    return 0;
}

/* --- PyPI --- */

static int route_pypi(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why)
{
    size_t n = p->n - at;

    ret->eco = RC_PYPI;
    if (n == 1 && strcmp(p->s[at], "simple") == 0) {
        ret->what = RC_PYPI_ROOT;
        return 0;
    }
    if (n < 2)
        return not_found(ret_why);
    bool simple = n == 2 && strcmp(p->s[at], "simple") == 0;
    if (!simple && !(n == 3 && strcmp(p->s[at], "files") == 0))
        return not_found(ret_why);
    if (rc_pypi_normalize(p->s[at + 1], ret->name, sizeof(ret->name)) < 0)
        return refuse(ret_why, 400, "this is not a project's name");
    if (simple) {
        ret->what = RC_PYPI_INDEX;
        ret->slash = !p->slash;
        return 0;
    }
    if (!dbx_strcpy(ret->file, 512, p->s[at + 2]))
        return refuse(ret_why, 400, "the name of the file is too long");
    size_t len = strlen(ret->file);
    ret->what = RC_PYPI_FILE;
    if (len > 9 && strcmp(ret->file + len - 9, ".metadata") == 0) {
        ret->what = RC_PYPI_METADATA;
        ret->file[len - 9] = '\0';
    }
    return 0;
}

/* --- Go --- */

static int join(const struct parts *p, size_t from, size_t to, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = from; i < to; i++) {
        int k = snprintf(out + n, size - n, "%s%s", i > from ? "/" : "", p->s[i]);
        if (k < 0 || (size_t)k >= size - n)
            return -EINVAL;
        n += (size_t)k;
    }
    return 0;
}

static bool digits(const char **s)
{
    size_t n = strspn(*s, "0123456789");

    *s += n;
    return n > 0;
}

/* v1.2.3, with what may follow: such a version never changes, a branch does. */
static bool is_fixed(const char *file)
{
    const char *s = file + 1;

    return *file == 'v' && digits(&s) && *s++ == '.' && digits(&s) && *s++ == '.' && digits(&s) &&
           (*s == '.' || *s == '-' || *s == '+');
}

static int route_go(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why)
{
    size_t v = p->n;

    ret->eco = RC_GO;
    for (size_t i = at; i < p->n; i++)
        if (!all_of(p->s[i], "-._~!+@,;=$()"))
            return refuse(ret_why, 400, "the path holds a character that no module has");
    if (p->n - at >= 3 && strcmp(p->s[at], "sumdb") == 0) {
        ret->what = RC_GO_SUMDB;
        (void)dbx_strcpy(ret->name, sizeof(ret->name), p->s[at + 1]);
        return join(p, at + 2, p->n, ret->file, sizeof(ret->file)) < 0
                   ? refuse(ret_why, 400, "the path is too long")
                   : 0;
    }
    for (size_t i = at; i < p->n && v == p->n; i++)
        if (strcmp(p->s[i], "@v") == 0 || strcmp(p->s[i], "@latest") == 0)
            v = i;
    if (v == p->n || v == at || join(p, at, v, ret->name, sizeof(ret->name)) < 0)
        return not_found(ret_why);
    bool latest = strcmp(p->s[v], "@latest") == 0;
    if (p->n != v + (latest ? 1 : 2))
        return not_found(ret_why);
    ret->what = RC_GO_MOVING;
    (void)join(p, v, p->n, ret->file, sizeof(ret->file));
    if (latest || strcmp(p->s[v + 1], "list") == 0)
        return 0;
    const char *dot = strrchr(p->s[v + 1], '.');
    if (!dot || (strcmp(dot, ".info") != 0 && strcmp(dot, ".mod") != 0 && strcmp(dot, ".zip") != 0))
        return not_found(ret_why);
    if (is_fixed(p->s[v + 1]))
        ret->what = RC_GO_FIXED;
    return 0;
}

/* --- crates --- */

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s += 'a' - 'A';
}

static int crate_download(const struct parts *p, size_t at, struct rc_route *ret,
                          const char **ret_why)
{
    if (SAME(p, at, "api", "v1", "crates")) {
        ret->what = RC_CRATES_SEARCH;
        return 0;
    }
    if (p->n != at + 6 || strcmp(p->s[at + 1], "v1") != 0 || strcmp(p->s[at + 2], "crates") != 0 ||
        strcmp(p->s[at + 5], "download") != 0)
        return not_found(ret_why);
    ret->what = RC_CRATES_DOWNLOAD;
    if (!dbx_strcpy(ret->name, sizeof(ret->name), p->s[at + 3]) || !rc_crate_name_valid(ret->name))
        return refuse(ret_why, 400, "this is not a crate's name");
    if (!dbx_strcpy(ret->version, sizeof(ret->version), p->s[at + 4]) ||
        !all_of(ret->version, "-.+") || ret->version[0] < '0' || ret->version[0] > '9')
        return refuse(ret_why, 400, "this is not a version");
    return 0;
}

static int route_crates(const struct parts *p, size_t at, struct rc_route *ret,
                        const char **ret_why)
{
    char prefix[8], folder[64];

    ret->eco = RC_CRATES;
    if (SAME(p, at, "config.json")) {
        ret->what = RC_CRATES_CONFIG;
        return 0;
    }
    if (p->n > at && strcmp(p->s[at], "api") == 0)
        return crate_download(p, at, ret, ret_why);
    if (p->n - at < 2 || p->n - at > 3)
        return not_found(ret_why);
    ret->what = RC_CRATES_INDEX;
    if (!dbx_strcpy(ret->name, sizeof(ret->name), p->s[p->n - 1]) ||
        !rc_crate_name_valid(ret->name))
        return refuse(ret_why, 400, "this is not a crate's name");
    lower(ret->name);
    rc_crate_prefix(ret->name, prefix);
    if (join(p, at, p->n - 1, folder, sizeof(folder)) < 0)
        return not_found(ret_why);
    return strncasecmp(folder, prefix, strlen(folder)) == 0 && strlen(folder) + 1 == strlen(prefix)
               ? 0
               : not_found(ret_why);
}

/* --- the whole --- */

static int take_digest(const char *hex, struct rc_route *ret, const char **ret_why)
{
    uint8_t digest[32];

    if (strlen(hex) != 64 || dbx_hex_decode(hex, 64, digest) < 0)
        return refuse(ret_why, 400, "this is not a sha256 in hex");
    dbx_hex_encode(digest, 32, ret->file);
    return 0;
}

static int route_blob(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why)
{
    if (p->n != at + 2 || strcmp(p->s[at], "sha256") != 0)
        return not_found(ret_why);
    ret->what = RC_BLOB;
    return take_digest(p->s[at + 1], ret, ret_why);
}

static int route_layer(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why)
{
    if (p->n != at + 1)
        return not_found(ret_why);
    ret->what = RC_LAYER;
    return take_digest(p->s[at], ret, ret_why);
}

/* "@scope%2fname": the one place where a slash may be escaped. */
static int decode_scoped(const char *s, size_t len, char *out, size_t size)
{
    char left[256];
    const char *mark = NULL;

    for (size_t i = 0; i + 2 < len && !mark; i++)
        if (strncasecmp(s + i, "%2f", 3) == 0)
            mark = s + i;
    if (!mark || rc_segment_decode(s, (size_t)(mark - s), left, sizeof(left)) < 0 || *left != '@')
        return -EINVAL;
    int n = snprintf(out, size, "%s/", left);
    if (n < 0 || (size_t)n >= size)
        return -EINVAL;
    return rc_segment_decode(mark + 3, len - (size_t)(mark + 3 - s), out + n, size - (size_t)n);
}

static int split(const char *path, struct parts *p, const char **ret_why)
{
    char *out = p->text;

    if (strlen(path) > MAX_PATH || *path != '/')
        return refuse(ret_why, 400, "the path is too long");
    p->n = 0;
    p->slash = path[1] && path[strlen(path) - 1] == '/';
    for (const char *s = path + 1; *s;) {
        size_t len = strcspn(s, "/"), left = (size_t)(p->text + sizeof(p->text) - out);
        if (p->n == MAX_SEGMENTS)
            return refuse(ret_why, 400, "the path has too many segments");
        if (!len)
            return refuse(ret_why, 400, "the path has an empty segment");
        if (rc_segment_decode(s, len, out, left) < 0 && decode_scoped(s, len, out, left) < 0)
            return refuse(ret_why, 400, "the path holds an escape or a character that no name has");
        if (strcmp(out, ".") == 0 || strcmp(out, "..") == 0)
            return refuse(ret_why, 400, "the path holds a dot segment");
        p->s[p->n++] = out;
        out += strlen(out) + 1;
        s += len;
        s += *s == '/';
    }
    return 0;
}

int rc_route_parse(const char *path, struct rc_route *ret, const char **ret_why)
{
    static const struct {
        const char *prefix;
        int (*fn)(const struct parts *p, size_t at, struct rc_route *ret, const char **ret_why);
    } prefixes[] = {{"npm", route_npm},       {"pypi", route_pypi},  {"go", route_go},
                    {"crates", route_crates}, {"blobs", route_blob}, {"layers", route_layer}};
    static const struct {
        const char *name;
        enum rc_what what;
    } own[] = {{"healthz", RC_HEALTH}, {"readyz", RC_READY}, {"metrics", RC_METRICS}};
    struct parts p;

    memset(ret, 0, sizeof(*ret));
    *ret_why = "";
    int status = split(path, &p, ret_why);
    if (status)
        return status;
    for (size_t i = 0; p.n > 1 && i < DBX_ARRAY_LEN(prefixes); i++)
        if (strcmp(p.s[0], prefixes[i].prefix) == 0 && (i == 0 || strcmp(p.s[1], "-") != 0))
            return prefixes[i].fn(&p, 1, ret, ret_why);
    for (size_t i = 0; p.n == 1 && i < DBX_ARRAY_LEN(own); i++)
        if (strcmp(p.s[0], own[i].name) == 0) {
            ret->what = own[i].what;
            return 0;
        }
    /* A lock file of npm keeps the path of a tarball, and older clients ask for it below our root.
     */
    if (p.n >= 3 && strcmp(p.s[p.n - 2], "-") == 0)
        return route_npm(&p, 0, ret, ret_why);
    return not_found(ret_why);
}

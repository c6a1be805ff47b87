/* SPDX-License-Identifier: Apache-2.0 */
/* Lock files, read as far as it takes to know that they stand for themselves. The installer reads
 * them again, in a sandbox: what is overlooked here makes a build fail, never another one's layer.
 */
#include "bundles/deps.h"

#include "common/base/str.h"
#include "common/ext/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINE 8192

static int beyond(struct dbx_err *err, const char *field, const char *what)
{
    return dbx_err_field(err, field, "'%.80s' reaches beyond the file itself", what);
}

/* The next line without its end; false: there is none. */
static bool next_line(const struct dbx_buf *text, size_t *at, char line[static MAX_LINE])
{
    if (*at >= text->len)
        return false;
    const uint8_t *from = text->data + *at, *end = memchr(from, '\n', text->len - *at);
    size_t len = end ? (size_t)(end - from) : text->len - *at;
    *at += len + 1;
    if (len >= MAX_LINE)
        len = MAX_LINE - 1;
    memcpy(line, from, len);
    line[len] = '\0';
    return true;
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t len = strlen(s);
    while (len && strchr(" \t\r", s[len - 1]))
        s[--len] = '\0';
    return s;
}

/* ---- requirements.txt ---- */

/* "name[extras]==1.0 ; marker --hash=...", or an option that stands alone. */
static int check_requirement(char *line, bool *pinned, struct dbx_err *err)
{
    static const char field[] = "requirements.txt";
    if (line[0] == '-')
        return dbx_starts_with(line, "--hash=") || dbx_streq(line, "--require-hashes") ||
                       dbx_streq(line, "--prefer-binary")
                   ? 0
                   : beyond(err, field, line);
    if (!isalnum((unsigned char)line[0]) || strstr(line, "://") || strchr(line, '@') ||
        strpbrk(line, "/\\") || strstr(line, " -") != strstr(line, " --hash="))
        return beyond(err, field, line);
    size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "._-[], ");
    *pinned &= dbx_starts_with(line + name, "==") && !strchr(line + name, '*');
    return 0;
}

static int check_pip(const struct dbx_buf *lock, bool *pinned, struct dbx_err *err)
{
    char line[MAX_LINE];
    size_t at = 0, n = 0;
    *pinned = true;
    if (lock->len && memchr(lock->data, 0, lock->len))
        return dbx_err_field(err, "requirements.txt", "is no text");
    while (next_line(lock, &at, line)) {
        char *text = trim(line), *comment = text[0] == '#' ? text : strstr(text, " #");
        if (comment)
            *comment = '\0';
        text = trim(text);
        size_t len = strlen(text);
        if (len && text[len - 1] == '\\') { /* goes on: each line is looked at by itself */
            text[len - 1] = '\0';
            text = trim(text);
        }
        if (!*text)
            continue;
        n += text[0] != '-';
        int r = check_requirement(text, pinned, err);
        if (r < 0)
            return r;
    }
    return n ? 0 : dbx_err_field(err, "requirements.txt", "names nothing");
}

/* ---- package-lock.json ---- */

static int check_package(const char *path, const struct dbx_json *p, struct dbx_err *err)
{
    const char *resolved = dbx_json_get_str(p, "resolved");
    if (dbx_json_type(p) != DBX_JSON_OBJECT)
        return dbx_err_field(err, "package-lock.json", "packages: not an object");
    if (*path && !dbx_starts_with(path, "node_modules/"))
        return beyond(err, "package-lock.json", path);
    if (dbx_json_get_bool(p, "link", false))
        return beyond(err, "package-lock.json", path);
    if (resolved && !dbx_starts_with(resolved, "https://") && !dbx_starts_with(resolved, "http://"))
        return beyond(err, "package-lock.json", resolved);
    return 0;
}

/* What npm ci compares with the lock file, and what it decides by. */
static int write_manifest(const struct dbx_json *root, struct dbx_buf *out)
{
    static const char *const kept[] = {"name",
                                       "version",
                                       "dependencies",
                                       "devDependencies",
                                       "optionalDependencies",
                                       "overrides",
                                       "peerDependencies",
                                       "engines",
                                       "os",
                                       "peerDependenciesMeta",
                                       "cpu"};
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    for (size_t i = 0; i < DBX_ARRAY_LEN(kept); i++) {
        const struct dbx_json *v = dbx_json_get(root, kept[i]);
        if (!v)
            continue;
        dbx_jw_key(w, kept[i]);
        dbx_jw_node(w, v);
    }
    dbx_jw_object_end(w);
    return dbx_jw_end(&w);
}

static int check_npm_manifest(struct dbx_buf *manifest, struct dbx_err *err)
{
    static const char field[] = "package.json";
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err why = {0};
    if (dbx_json_parse(manifest->data, manifest->len, NULL, &doc, &why) < 0)
        return dbx_err_field(err, field, "%s", why.msg);
    const struct dbx_json *root = dbx_json_root(doc);
    if (dbx_json_type(root) != DBX_JSON_OBJECT)
        return dbx_err_field(err, field, "is no object");
    if (dbx_json_get(root, "workspaces"))
        return beyond(err, field, "workspaces");
    if (dbx_json_get(root, "pnpm")) /* overrides, patches */
        return beyond(err, field, "pnpm");
    dbx_buf_clear(manifest); /* the tree has its own copy of all strings */
    return write_manifest(root, manifest) < 0 ? dbx_err_field(err, field, "does not fit") : 0;
}

static int check_npm(const struct dbx_buf *lock, struct dbx_buf *manifest, struct dbx_err *err)
{
    static const struct dbx_json_limits limits = {.max_depth = 16, .max_nodes = 400000};
    static const char field[] = "package-lock.json";
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err why = {0};
    if (dbx_json_parse(lock->data, lock->len, &limits, &doc, &why) < 0)
        return dbx_err_field(err, field, "%s", why.msg);
    const struct dbx_json *packages = dbx_json_get(dbx_json_root(doc), "packages");
    if (dbx_json_type(packages) != DBX_JSON_OBJECT || dbx_json_count(packages) < 2)
        return dbx_err_field(err, field, "names no packages");
    for (size_t i = 0; i < dbx_json_count(packages); i++) {
        const struct dbx_json *p;
        const char *path = dbx_json_key(packages, i, &p);
        int r = check_package(path, p, err);
        if (r < 0)
            return r;
    }
    return check_npm_manifest(manifest, err);
}

/* ---- go.sum, Cargo.lock ---- */

/* "replace a => ../b", alone or in a block. */
static int check_go(const struct dbx_buf *lock, const struct dbx_buf *manifest, struct dbx_err *err)
{
    char line[MAX_LINE];
    size_t at = 0;
    while (next_line(manifest, &at, line)) {
        char *arrow = strstr(line, "=>");
        char *to = arrow ? trim(arrow + 2) : NULL;
        if (to && (to[0] == '.' || to[0] == '/' || to[0] == '"' || to[0] == '`'))
            return beyond(err, "go.mod", line);
    }
    return lock->len ? 0 : dbx_err_field(err, "go.sum", "names nothing");
}

/* Dependencies by path or git, workspaces, build scripts and targets elsewhere. */
static int check_cargo(const struct dbx_buf *lock, const struct dbx_buf *manifest,
                       struct dbx_err *err)
{
    static const char *const words[] = {"path", "git", "workspace", "build", "include", "registry"};
    char line[MAX_LINE];
    size_t at = 0, found = 0;
    while (next_line(manifest, &at, line)) {
        for (size_t i = 0; i < DBX_ARRAY_LEN(words); i++) {
            const char *word = strstr(line, words[i]);
            size_t len = strlen(words[i]);
            if (word && strchr(" \t={},.[]\"", word == line ? ' ' : word[-1]) &&
                strchr(" \t=.]\"", word[len]) && line[0] != '#')
                return beyond(err, "Cargo.toml", line);
        }
    }
    for (at = 0; next_line(lock, &at, line);)
        found += dbx_starts_with(line, "source = \"registry+");
    return found ? 0 : dbx_err_field(err, "Cargo.lock", "names nothing");
}

/* ---- pnpm-lock.yaml, uv.lock ---- */

/* Whether a word begins somewhere in the line, not amid another ("...FromLockfile: true"). */
static bool begins_in(const char *line, const char *word)
{
    for (const char *at = line; (at = strstr(at, word)); at++)
        if (at == line || !isalnum((unsigned char)at[-1]))
            return true;
    return false;
}

/* Packages of the registry have an integrity and no address. */
static int check_pnpm(const struct dbx_buf *lock, struct dbx_buf *manifest, struct dbx_err *err)
{
    static const char *const words[] = {"link:",    "file:", "git+",       "git@", "http",
                                        "tarball:", "repo:", "directory:", "patch"};
    static const char field[] = "pnpm-lock.yaml";
    char line[MAX_LINE];
    size_t at = 0, found = 0;
    while (next_line(lock, &at, line)) {
        char *text = trim(line);
        for (size_t i = 0; i < DBX_ARRAY_LEN(words); i++)
            if (begins_in(text, words[i]) && !dbx_starts_with(text, "deprecated:"))
                return beyond(err, field, text);
        found += dbx_starts_with(text, "resolution: {integrity: ");
    }
    return found ? check_npm_manifest(manifest, err) : dbx_err_field(err, field, "names nothing");
}

/* The project itself is in it, as "." */
static int check_uv(const struct dbx_buf *lock, const struct dbx_buf *manifest, struct dbx_err *err)
{
    static const char *const words[] = {"tool.uv", "sources", "workspace"};
    char line[MAX_LINE];
    size_t at = 0, found = 0;
    while (next_line(manifest, &at, line))
        for (size_t i = 0; i < DBX_ARRAY_LEN(words); i++)
            if (strstr(line, words[i]) && line[0] != '#')
                return beyond(err, "pyproject.toml", line);
    for (at = 0; next_line(lock, &at, line);) {
        const char *text = trim(line);
        bool registry = dbx_starts_with(text, "source = { registry = \"http");
        if (dbx_starts_with(text, "source = ") && !registry &&
            !dbx_streq(text, "source = { virtual = \".\" }") &&
            !dbx_streq(text, "source = { editable = \".\" }"))
            return beyond(err, "uv.lock", text);
        found += registry;
    }
    return found ? 0 : dbx_err_field(err, "uv.lock", "names nothing");
}

int bnd__lock_check(enum bnd_lock_kind kind, const struct dbx_buf *lock, struct dbx_buf *manifest,
                    bool *ret_pinned, struct dbx_err *err)
{
    *ret_pinned = true;
    switch (kind) {
    case BND_LOCK_PIP:
        return check_pip(lock, ret_pinned, err);
    case BND_LOCK_NPM:
        return check_npm(lock, manifest, err);
    case BND_LOCK_GO:
        return check_go(lock, manifest, err);
    case BND_LOCK_CARGO:
        return check_cargo(lock, manifest, err);
    case BND_LOCK_PNPM:
        return check_pnpm(lock, manifest, err);
    case BND_LOCK_UV:
        return check_uv(lock, manifest, err);
    case BND_LOCK_KINDS:
        break;
    }
    return dbx_err_field(err, "kind", "is none");
}

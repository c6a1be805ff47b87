/* SPDX-License-Identifier: Apache-2.0 */
/* Templates as data (docs/templates.md says what the fields mean). They are ours, and are still
 * read strictly: a slip in one is found when it is loaded, not when somebody's program does not
 * start. */
#include "bundles/bundles_int.h"

#include "common/base/str.h"
#include "common/proto/path.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What every user process is given; a template may overrule and add. */
static const char *const base_env[][2] = {
    {"PATH", BND_HOME_DIR "/.local/bin:/usr/local/bin:/usr/bin:/bin"},
    {"HOME", BND_HOME_DIR},
    {"USER", "dev"},
    {"LOGNAME", "dev"},
    {"SHELL", "/bin/bash"},
    {"LANG", "C.UTF-8"},
};

struct template_json {
    const char *name, *title;
    int64_t order, warm;
    const struct dbx_json *extensions, *packages, *setup, *stamps, *env, *registry_env, *supply,
        *entries, *parked, *dependencies;
};

#define FIELD(name_, type_, flags_, min_, max_)                                                    \
    {                                                                                              \
        .name = #name_, .type = DBX_JSON_##type_, .offset = offsetof(struct template_json, name_), \
        .flags = flags_, .min = min_, .max = max_                                                  \
    }
static const struct dbx_json_field template_fields[] = {
    FIELD(name, STRING, DBX_JSON_REQUIRED, 1, 32),
    FIELD(title, STRING, DBX_JSON_REQUIRED, 1, 64),
    FIELD(order, INT, DBX_JSON_REQUIRED, 0, 1000),
    FIELD(warm, INT, DBX_JSON_REQUIRED, 0, 1000),
    FIELD(extensions, ARRAY, 0, 0, BND_MAX_LIST),
    FIELD(packages, ARRAY, DBX_JSON_REQUIRED, 0, BND_MAX_LIST),
    FIELD(setup, ARRAY, 0, 0, BND_MAX_LIST),
    FIELD(stamps, ARRAY, 0, 0, BND_MAX_LIST),
    FIELD(env, OBJECT, 0, 0, 0),
    FIELD(registry_env, OBJECT, 0, 0, 0),
    FIELD(supply, ARRAY, 0, 0, BND_MAX_SUPPLY),
    FIELD(entries, ARRAY, DBX_JSON_REQUIRED, 1, BND_MAX_ENTRIES),
    FIELD(parked, OBJECT, 0, 0, 0),
    FIELD(dependencies, ARRAY, 0, 0, BND_MAX_DEPENDENCIES),
};
#undef FIELD

static bool only(const char *s, const char *allowed)
{
    return *s && s[strspn(s, allowed)] == '\0';
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

/* The strings of an array (NULL: none) as a NULL-terminated list of borrowed words. */
static int string_list(const struct dbx_json *array, const char *field, const char *allowed,
                       char ***ret, struct dbx_err *err)
{
    size_t n = dbx_json_count(array);
    if (n > BND_MAX_LIST)
        return dbx_err_field(err, field, "%s: too many", field);
    DBX_CLEANUP(dbx_freep) char **list = dbx_calloc(n + 1, sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *s = dbx_json_str(dbx_json_at(array, i), &len);
        if (!s || len == 0 || strlen(s) != len)
            return dbx_err_field(err, field, "%s[%zu] must be a string with something in it", field,
                                 i);
        if (allowed && !only(s, allowed))
            return dbx_err_field(err, field, "%s[%zu]: '%.40s' is no valid one", field, i, s);
        list[i] = (char *)(uintptr_t)s;
    }
    *ret = DBX_TAKE(list);
    return 0;
}

static bool env_overruled(const struct dbx_json *env, const char *key)
{
    return dbx_json_get(env, key) != NULL;
}

/* Appends "K=V" of each to list, which has room. "{registry}" at the begin of a value stands for
 * where the cache is. */
static int add_variables(char **list, size_t at, const struct dbx_json *env, const char *field,
                         struct dbx_err *err)
{
    static const char mark[] = "{registry}";
    for (size_t i = 0; i < dbx_json_count(env); i++) {
        const struct dbx_json *node;
        size_t len;
        const char *key = dbx_json_key(env, i, &node), *value = dbx_json_str(node, &len);
        if (!only(key, UPPER LOWER DIGITS "_") || isdigit((unsigned char)*key))
            return dbx_err_field(err, field, "%s: '%.40s' is no name of a variable", field, key);
        if (!value || strlen(value) != len)
            return dbx_err_field(err, field, "%s.%s must be a string", field, key);
        bool marked = dbx_starts_with(value, mark);
        list[at++] = dbx_asprintf("%s=%s%s", key, marked ? BND_REGISTRY_URL : "",
                                  marked ? value + strlen(mark) : value);
    }
    return 0;
}

static int build_env(struct bnd__template *tpl, const struct dbx_json *env, struct dbx_err *err)
{
    size_t n = dbx_json_count(env), at = 0;
    if (n > BND_MAX_LIST)
        return dbx_err_field(err, "env", "env: too many");
    tpl->env = dbx_calloc(n + DBX_ARRAY_LEN(base_env) + 1, sizeof(*tpl->env));
    for (size_t i = 0; i < DBX_ARRAY_LEN(base_env); i++)
        if (!env_overruled(env, base_env[i][0]))
            tpl->env[at++] = dbx_asprintf("%s=%s", base_env[i][0], base_env[i][1]);
    tpl->pub.env = (const char *const *)tpl->env;
    return add_variables(tpl->env, at, env, "env", err);
}

static int build_registry_env(struct bnd__template *tpl, const struct dbx_json *env,
                              struct dbx_err *err)
{
    size_t n = dbx_json_count(env);
    if (n > BND_MAX_LIST)
        return dbx_err_field(err, "registry_env", "registry_env: too many");
    tpl->registry_env = dbx_calloc(n + 1, sizeof(*tpl->registry_env));
    tpl->pub.registry_env = (const char *const *)tpl->registry_env;
    return add_variables(tpl->registry_env, 0, env, "registry_env", err);
}

struct parked_json {
    const struct dbx_json *run, *start, *env, *unless;
    const char *cwd;
    int64_t memory_mb;
    bool fork;
};

struct entry_json {
    const char *file, *json_key;
    const struct dbx_json *compile, *run;
};
static const struct dbx_json_field entry_fields[] = {
    {"file", DBX_JSON_STRING, offsetof(struct entry_json, file), DBX_JSON_REQUIRED, 1, 255, false},
    {"json_key", DBX_JSON_STRING, offsetof(struct entry_json, json_key), 0, 1, 64, false},
    {"compile", DBX_JSON_ARRAY, offsetof(struct entry_json, compile), 0, 1, BND_MAX_LIST, false},
    {"run", DBX_JSON_ARRAY, offsetof(struct entry_json, run), DBX_JSON_REQUIRED, 1, BND_MAX_LIST,
     false},
};

static int parse_entry(struct bnd__template *tpl, const struct dbx_json *node, struct dbx_err *err)
{
    struct entry_json j = {0};
    struct bnd_entry *e = &tpl->entries[tpl->n_entries];
    if (dbx_json_type(node) != DBX_JSON_OBJECT)
        return dbx_err_field(err, "entries", "entries[%zu] must be an object", tpl->n_entries);
    int rc =
        dbx_json_decode(node, entry_fields, DBX_ARRAY_LEN(entry_fields), &j, "entries[].", err);
    if (rc < 0)
        return rc;
    tpl->n_entries++;
    e->file = j.file;
    e->json_key = j.json_key;
    const char *path = dbx_starts_with(j.file, "*.") ? j.file + 1 : j.file;
    rc = dbx_path_check(path, strlen(path), "entries[].file", err);
    if (rc == 0)
        rc = string_list(j.run, "entries[].run", NULL, &e->run, err);
    if (rc == 0 && j.compile)
        rc = string_list(j.compile, "entries[].compile", NULL, &e->compile, err);
    return rc;
}

static int parse_entries(struct bnd__template *tpl, const struct dbx_json *array,
                         struct dbx_err *err)
{
    for (size_t i = 0; i < dbx_json_count(array); i++) {
        int rc = parse_entry(tpl, dbx_json_at(array, i), err);
        if (rc < 0)
            return rc;
        if (i > 0 && !tpl->entries[i].compile != !tpl->entries[0].compile)
            return dbx_err_field(err, "entries", "either all entries compile or none does");
    }
    tpl->pub.has_compile = tpl->entries[0].compile != NULL;
    return 0;
}

static const struct dbx_json_field supply_fields[] = {
    {"path", DBX_JSON_STRING, offsetof(struct bnd_supply, path), DBX_JSON_REQUIRED, 1, 255, false},
    {"content", DBX_JSON_STRING, offsetof(struct bnd_supply, content), DBX_JSON_REQUIRED, 0, 0,
     false},
};

static int parse_supply(struct bnd__template *tpl, const struct dbx_json *array,
                        struct dbx_err *err)
{
    for (size_t i = 0; i < dbx_json_count(array); i++) {
        const struct dbx_json *node = dbx_json_at(array, i);
        struct bnd_supply *s = &tpl->supply[i];
        if (dbx_json_type(node) != DBX_JSON_OBJECT)
            return dbx_err_field(err, "supply", "supply[%zu] must be an object", i);
        int rc =
            dbx_json_decode(node, supply_fields, DBX_ARRAY_LEN(supply_fields), s, "supply[].", err);
        if (rc == 0)
            rc = dbx_path_check(s->path, strlen(s->path), "supply[].path", err);
        if (rc < 0)
            return rc;
        tpl->n_supply++;
    }
    return 0;
}

static const struct dbx_json_field parked_fields[] = {
    {"run", DBX_JSON_ARRAY, offsetof(struct parked_json, run), DBX_JSON_REQUIRED, 1, BND_MAX_LIST,
     false},
    {"start", DBX_JSON_ARRAY, offsetof(struct parked_json, start), 0, 1, BND_MAX_LIST, false},
    {"cwd", DBX_JSON_STRING, offsetof(struct parked_json, cwd), 0, 1, 255, false},
    {"memory_mb", DBX_JSON_INT, offsetof(struct parked_json, memory_mb), 0, 0, 65536, false},
    {"fork", DBX_JSON_BOOL, offsetof(struct parked_json, fork), 0, 0, 0, false},
    {"env", DBX_JSON_ARRAY, offsetof(struct parked_json, env), DBX_JSON_REQUIRED, 1, BND_MAX_LIST,
     false},
    {"unless", DBX_JSON_ARRAY, offsetof(struct parked_json, unless), DBX_JSON_REQUIRED, 1,
     BND_MAX_LIST, false},
};

static bool same_words(char *const *a, char *const *b)
{
    while (*a && *b && strcmp(*a, *b) == 0)
        a++, b++;
    return !*a && !*b;
}

/* Only what an entry runs is ever asked for. */
static int parse_parked(struct bnd__template *tpl, const struct dbx_json *node, struct dbx_err *err)
{
    struct parked_json j = {0};
    if (!node)
        return 0;
    int rc = dbx_json_decode(node, parked_fields, DBX_ARRAY_LEN(parked_fields), &j, "parked.", err);
    if (rc == 0)
        rc = string_list(j.run, "parked.run", NULL, &tpl->parked_run, err);
    if (rc == 0)
        rc = string_list(j.start ? j.start : j.run, "parked.start", NULL, &tpl->parked_start, err);
    if (rc == 0)
        rc = string_list(j.env, "parked.env", NULL, &tpl->parked_env, err);
    if (rc == 0)
        rc = string_list(j.unless, "parked.unless", UPPER DIGITS "_", &tpl->parked_unless, err);
    if (rc < 0)
        return rc;
    bool known = false;
    for (size_t i = 0; i < tpl->n_entries; i++)
        known |= same_words(tpl->parked_run, tpl->entries[i].run);
    if (!known)
        return dbx_err_field(err, "parked.run", "parked.run is no entry's run");
    for (size_t i = 0; tpl->parked_env[i]; i++)
        if (!strchr(tpl->parked_env[i], '='))
            return dbx_err_field(err, "parked.env", "parked.env[%zu] is no K=V", i);
    if (j.cwd && j.cwd[0] != '/')
        return dbx_err_field(err, "parked.cwd", "parked.cwd is not absolute");
    tpl->pub.parked = (struct bnd_parked){
        .run = (const char *const *)tpl->parked_run,
        .start = (const char *const *)tpl->parked_start,
        .cwd = j.cwd ? j.cwd : BND_WORK_DIR,
        .env = (const char *const *)tpl->parked_env,
        .unless = (const char *const *)tpl->parked_unless,
        .memory_mb = (uint32_t)j.memory_mb,
        .fork = j.fork,
    };
    return 0;
}

struct dependency_json {
    const char *kind, *lock, *manifest, *into, *build;
};
#define FIELD(name_, flags_, max_)                                                                 \
    {                                                                                              \
        .name = #name_, .type = DBX_JSON_STRING,                                                   \
        .offset = offsetof(struct dependency_json, name_), .flags = flags_, .min = 1, .max = max_  \
    }
static const struct dbx_json_field dependency_fields[] = {
    FIELD(kind, DBX_JSON_REQUIRED, 16),
    FIELD(lock, DBX_JSON_REQUIRED, 255),
    FIELD(manifest, 0, 255),
    FIELD(into, DBX_JSON_REQUIRED, 200),
    FIELD(build, DBX_JSON_REQUIRED, 4096),
};
#undef FIELD

static int parse_dependency(const struct dbx_json *node, struct bnd_dependency *ret,
                            struct dbx_err *err)
{
    static const char *const kinds[BND_LOCK_KINDS] = {"pip", "npm", "go", "cargo", "pnpm", "uv"};
    struct dependency_json j = {0};
    int rc = dbx_json_decode(node, dependency_fields, DBX_ARRAY_LEN(dependency_fields), &j,
                             "dependencies[].", err);
    if (rc == 0)
        rc = dbx_path_check(j.lock, strlen(j.lock), "dependencies[].lock", err);
    if (rc == 0 && j.manifest)
        rc = dbx_path_check(j.manifest, strlen(j.manifest), "dependencies[].manifest", err);
    if (rc == 0)
        rc = dbx_path_check(j.into + (j.into[0] == '/'), strlen(j.into) - 1, "dependencies[].into",
                            err);
    if (rc < 0)
        return rc;
    size_t kind = 0;
    while (kind < DBX_ARRAY_LEN(kinds) && strcmp(kinds[kind], j.kind) != 0)
        kind++;
    if (kind == DBX_ARRAY_LEN(kinds) || j.into[0] != '/')
        return dbx_err_field(err, "dependencies",
                             "kind must be pip, npm, go, cargo, pnpm or uv, and into "
                             "absolute");
    *ret = (struct bnd_dependency){.kind = (enum bnd_lock_kind)kind,
                                   .lock = j.lock,
                                   .manifest = j.manifest,
                                   .into = j.into,
                                   .build = j.build};
    return 0;
}

static int parse_dependencies(struct bnd__template *tpl, const struct dbx_json *array,
                              struct dbx_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < dbx_json_count(array); i++) {
        if (dbx_json_type(dbx_json_at(array, i)) != DBX_JSON_OBJECT)
            return dbx_err_field(err, "dependencies", "dependencies[%zu] must be an object", i);
        rc = parse_dependency(dbx_json_at(array, i), &tpl->dependencies[i], err);
        tpl->pub.n_dependencies = i + 1;
    }
    tpl->pub.dependencies = tpl->dependencies;
    return rc;
}

static int parse_stamps(struct bnd__template *tpl, const struct dbx_json *array,
                        struct dbx_err *err)
{
    int rc = string_list(array, "stamps", NULL, &tpl->stamps, err);
    for (size_t i = 0; rc == 0 && tpl->stamps[i]; i++) {
        const char *path = tpl->stamps[i];
        if (path[0] != '/' || strrchr(path, '/') == path || strlen(path) > BND_MAX_STAMP)
            return dbx_err_field(err, "stamps", "stamps[%zu] is no absolute path in a folder", i);
        rc = dbx_path_check(path + 1, strlen(path) - 1, "stamps[]", err);
    }
    tpl->pub.stamps = (const char *const *)tpl->stamps;
    return rc;
}

static int fill(struct bnd__template *tpl, const struct template_json *j, struct dbx_err *err)
{
    if (!only(j->name, LOWER DIGITS "-"))
        return dbx_err_field(err, "name", "name: lower-case letters, digits and '-' only");
    tpl->pub.name = j->name;
    tpl->pub.title = j->title;
    tpl->pub.warm = (uint32_t)j->warm;
    tpl->order = j->order;
    int rc = string_list(j->extensions, "extensions", LOWER DIGITS, &tpl->extensions, err);
    if (rc == 0)
        rc = string_list(j->packages, "packages", LOWER DIGITS "+.-", &tpl->packages, err);
    if (rc == 0)
        rc = string_list(j->setup, "setup", NULL, &tpl->setup, err);
    if (rc == 0)
        rc = build_env(tpl, j->env, err);
    if (rc == 0)
        rc = build_registry_env(tpl, j->registry_env, err);
    if (rc == 0)
        rc = parse_stamps(tpl, j->stamps, err);
    if (rc == 0)
        rc = parse_supply(tpl, j->supply, err);
    if (rc == 0)
        rc = parse_entries(tpl, j->entries, err);
    if (rc == 0)
        rc = parse_parked(tpl, j->parked, err);
    if (rc == 0)
        rc = parse_dependencies(tpl, j->dependencies, err);
    tpl->pub.extensions = (const char *const *)tpl->extensions;
    return rc;
}

int bnd__template_parse(const void *data, size_t len, struct bnd__template **ret,
                        struct dbx_err *err)
{
    DBX_CLEANUP(bnd__template_freep) struct bnd__template *tpl = DBX_NEW(struct bnd__template);
    struct template_json j = {0};
    if (len > BND_MAX_TEMPLATE_FILE)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "a template of more than %u bytes",
                           BND_MAX_TEMPLATE_FILE);
    int rc = dbx_json_parse(data, len, NULL, &tpl->doc, err);
    if (rc < 0)
        return rc;
    const struct dbx_json *root = dbx_json_root(tpl->doc);
    if (dbx_json_type(root) != DBX_JSON_OBJECT)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "a template must be an object");
    rc = dbx_json_decode(root, template_fields, DBX_ARRAY_LEN(template_fields), &j, "", err);
    if (rc == 0)
        rc = fill(tpl, &j, err);
    if (rc < 0)
        return rc;
    *ret = DBX_TAKE(tpl);
    return 0;
}

int bnd_template_check(const void *data, size_t len, struct dbx_err *err)
{
    DBX_CLEANUP(bnd__template_freep) struct bnd__template *tpl = NULL;
    return bnd__template_parse(data, len, &tpl, err);
}

struct bnd__template *bnd__template_free(struct bnd__template *tpl)
{
    if (!tpl)
        return NULL;
    for (size_t i = 0; tpl->env && tpl->env[i]; i++)
        free(tpl->env[i]);
    for (size_t i = 0; tpl->registry_env && tpl->registry_env[i]; i++)
        free(tpl->registry_env[i]);
    for (size_t i = 0; i < tpl->n_entries; i++) {
        free(tpl->entries[i].compile);
        free(tpl->entries[i].run);
    }
    free(tpl->env);
    free(tpl->registry_env);
    free(tpl->stamps);
    free(tpl->extensions);
    free(tpl->packages);
    free(tpl->setup);
    free(tpl->parked_run);
    free(tpl->parked_start);
    free(tpl->parked_env);
    free(tpl->parked_unless);
    free(tpl->image);
    free(tpl->digest);
    dbx_json_doc_free(tpl->doc);
    free(tpl);
    return NULL;
}

void bnd__template_freep(struct bnd__template **tpl)
{
    *tpl = bnd__template_free(*tpl);
}

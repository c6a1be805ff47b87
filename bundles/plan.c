/* SPDX-License-Identifier: Apache-2.0 */
/* From an execution's files and command to what is compiled and run. The rules are data (a
 * template's entries); files and command come from a client. */
#include "bundles/bundles_int.h"

#include "common/base/str.h"
#include "common/proto/files.h"
#include "common/proto/path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PACKAGE_JSON (1u << 20)

/* ---- files in a block
 * -------------------------------------------------------------------------------------- */

static bool block_find(const struct bnd_files_block *block, const char *path, struct dbx_file *ret)
{
    size_t offset = 0, len = strlen(path);
    while (dbx_files_next(block->data, block->len, &offset, ret) == 1)
        if (!ret->folder && ret->path_len == len && memcmp(ret->path, path, len) == 0)
            return true;
    return false;
}

static bool block_has(void *ctx, const char *path)
{
    struct dbx_file f;
    return block_find(ctx, path, &f);
}

static bool block_has_suffix(void *ctx, const char *suffix)
{
    const struct bnd_files_block *block = ctx;
    size_t offset = 0, len = strlen(suffix);
    struct dbx_file f;
    while (dbx_files_next(block->data, block->len, &offset, &f) == 1)
        if (!f.folder && f.path_len > len && !memchr(f.path, '/', f.path_len) &&
            memcmp(f.path + f.path_len - len, suffix, len) == 0)
            return true;
    return false;
}

static int block_read(void *ctx, const char *path, struct dbx_buf *out)
{
    struct dbx_file f;
    return block_find(ctx, path, &f) ? dbx_buf_append(out, f.data, f.size) : -ENOENT;
}

struct bnd_files bnd_files_of_block(struct bnd_files_block *block)
{
    return (struct bnd_files){block, block_has, block_has_suffix, block_read};
}

/* ---- which entry
 * ------------------------------------------------------------------------------------------- */

/* Node's own rule for what a path without an extension may mean. */
static bool node_resolves(const struct bnd_files *files, const char *path)
{
    static const char *const tails[] = {"", ".js", ".json", ".cjs", ".mjs", "/index.js"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(tails); i++) {
        DBX_CLEANUP(dbx_freep) char *full = dbx_asprintf("%s%s", path, tails[i]);
        if (files->has(files->ctx, full))
            return true;
    }
    return false;
}

/* The path that key of the JSON file names, as "./path"; *ret NULL when the file names none. */
static int named_main(const struct bnd_files *files, const struct bnd_entry *e, char **ret,
                      struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf data = {0};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct dbx_err why = {0};
    dbx_buf_init(&data, MAX_PACKAGE_JSON);
    int rc = files->read(files->ctx, e->file, &data);
    if (rc < 0)
        return dbx_err_field(err, "files", "%s is larger than %u bytes", e->file, MAX_PACKAGE_JSON);
    if (dbx_json_parse(data.data, data.len, NULL, &doc, &why) < 0)
        return dbx_err_field(err, "files", "%s: %s", e->file, why.msg);
    size_t len;
    const struct dbx_json *root = dbx_json_root(doc);
    const char *s = NULL;
    if (dbx_json_type(root) == DBX_JSON_OBJECT)
        s = dbx_json_str(dbx_json_get(root, e->json_key), &len);
    *ret = NULL;
    if (!s || len == 0)
        return 0;
    while (dbx_starts_with(s, "./"))
        s += 2, len -= 2;
    while (len > 1 && s[len - 1] == '/')
        len--;
    if (dbx_path_check(s, len, "files", &why) < 0)
        return dbx_err_field(err, "files", "%s: \"%s\": %s", e->file, e->json_key, why.msg);
    DBX_CLEANUP(dbx_freep) char *path = dbx_strndup(s, len);
    if (!node_resolves(files, path))
        return dbx_err_field(err, "files", "%s names \"%.100s\", which is not among the files",
                             e->file, path);
    *ret = dbx_asprintf("./%s", path);
    return 0;
}

static bool entry_present(const struct bnd_files *files, const struct bnd_entry *e)
{
    if (dbx_starts_with(e->file, "*."))
        return files->has_suffix(files->ctx, e->file + 1);
    return files->has(files->ctx, e->file);
}

static int no_entry(const struct bnd__template *tpl, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf words = {0};
    dbx_buf_init(&words, sizeof(err->msg));
    for (size_t i = 0; i < tpl->n_entries; i++) {
        const struct bnd_entry *e = &tpl->entries[i];
        (void)dbx_buf_printf(&words, "%s%s", i ? " and no " : "no ", e->file);
        if (e->json_key)
            (void)dbx_buf_printf(&words, " with \"%s\"", e->json_key);
    }
    return dbx_err_field(err, "files", "there is %s among the files, which template %s begins with",
                         dbx_buf_cstr(&words), tpl->pub.name);
}

/* *ret_main is owned by the caller. -EINVAL when there is no entry. */
static int find_entry(const struct bnd__template *tpl, const struct bnd_files *files,
                      const struct bnd_entry **ret, char **ret_main, struct dbx_err *err)
{
    for (size_t i = 0; i < tpl->n_entries; i++) {
        const struct bnd_entry *e = &tpl->entries[i];
        DBX_CLEANUP(dbx_freep) char *main_path = NULL;
        if (!entry_present(files, e))
            continue;
        int rc = e->json_key ? named_main(files, e, &main_path, err) : 0;
        if (rc < 0)
            return rc;
        if (e->json_key && !main_path)
            continue;
        *ret = e;
        *ret_main = DBX_TAKE(main_path);
        return 0;
    }
    return no_entry(tpl, err);
}

/* ---- the plan
 * ---------------------------------------------------------------------------------------------- */

static char **copy_argv(char *const *argv, const char *main_path)
{
    size_t n = 0;
    while (argv[n])
        n++;
    char **copy = dbx_calloc(n + 1, sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        copy[i] = dbx_strdup(main_path && strcmp(argv[i], "{main}") == 0 ? main_path : argv[i]);
    return copy;
}

static int check_command(const char *shell, char *const *argv, struct dbx_err *err)
{
    size_t n = 0, bytes = shell ? strlen(shell) : 0;
    if (shell && argv)
        return dbx_err_field(err, "command", "a shell line or an array of arguments, not both");
    if (shell && bytes == 0)
        return dbx_err_field(err, "command", "the command is empty");
    for (; argv && argv[n] && n <= BND_MAX_ARGS; n++)
        bytes += strlen(argv[n]) + 1;
    if (argv && (n == 0 || argv[0][0] == '\0'))
        return dbx_err_field(err, "command", "the command names no program");
    if (n > BND_MAX_ARGS)
        return dbx_err_field(err, "command", "more than %d arguments", BND_MAX_ARGS);
    if (bytes > BND_MAX_COMMAND)
        return dbx_err_field(err, "command", "longer than %u bytes", BND_MAX_COMMAND);
    return 0;
}

static void add_supplies(const struct bnd__template *tpl, const struct bnd_files *files,
                         struct bnd_plan *plan)
{
    plan->extra = dbx_calloc(tpl->n_supply + 1, sizeof(*plan->extra));
    for (size_t i = 0; i < tpl->n_supply; i++) {
        const struct bnd_supply *s = &tpl->supply[i];
        if (!files->has(files->ctx, s->path))
            plan->extra[plan->n_extra++] = (struct bnd_extra_file){
                .path = dbx_strdup(s->path), .data = dbx_strdup(s->content), .mode = 0644};
    }
}

int bnd_plan(const struct bnd_template *pub, const struct bnd_files *files,
             const char *command_shell, char *const *command_argv, struct bnd_plan *ret,
             struct dbx_err *err)
{
    const struct bnd__template *tpl = bnd__template_of(pub);
    const struct bnd_entry *entry = NULL;
    DBX_CLEANUP(dbx_freep) char *main_path = NULL;
    int rc = check_command(command_shell, command_argv, err);
    if (rc < 0)
        return rc;
    if (pub->has_compile || (!command_shell && !command_argv)) {
        rc = find_entry(tpl, files, &entry, &main_path, err);
        if (rc < 0)
            return rc;
    }
    struct bnd_plan plan = {0};
    char *const shell_argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)command_shell, NULL};
    if (entry && entry->compile)
        plan.compile_argv = copy_argv(entry->compile, main_path);
    if (command_shell)
        plan.run_argv = copy_argv(shell_argv, NULL);
    else if (command_argv)
        plan.run_argv = copy_argv(command_argv, NULL);
    else
        plan.run_argv = copy_argv(entry->run, main_path);
    add_supplies(tpl, files, &plan);
    *ret = plan;
    return 0;
}

void bnd_plan_done(struct bnd_plan *plan)
{
    bnd_argv_free(plan->compile_argv);
    bnd_argv_free(plan->run_argv);
    for (size_t i = 0; i < plan->n_extra; i++) {
        free(plan->extra[i].path);
        free(plan->extra[i].data);
    }
    free(plan->extra);
    *plan = (struct bnd_plan){0};
}

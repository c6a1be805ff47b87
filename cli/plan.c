/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

/* Which file a folder's program begins with, the first that is there. */
static const struct {
    const char *file, *template;
} begins[] = {
    {"main.py", "python"}, {"main.js", "node"},    {"package.json", "node"}, {"go.mod", "go"},
    {"main.go", "go"},     {"Cargo.toml", "rust"}, {"main.rs", "rust"},
};

/* How a program is run when it is given arguments (the contract: `command` replaces the run step).
 * entry: the file that is run; when it is not there `otherwise` is (`node .` follows package.json's
 * "main"). */
static const struct runner {
    const char *template, *program, *entry, *otherwise;
} runners[] = {
    {"python", "python3", "main.py", "main.py"},
    {"node", "node", "main.js", "."},
    {"go", "./main", NULL, NULL},
    {"rust", "./main", NULL, NULL},
};

const char *cli_guess(const struct cli_files *files)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(begins); i++)
        if (cli_files_find(files, begins[i].file))
            return begins[i].template;
    return NULL;
}

static int take_name(struct cli_plan *plan, const char *name, struct dbx_err *err)
{
    if (!*name || !dbx_strcpy(plan->template, sizeof(plan->template), name))
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%.80s' is not a template's name", name);
    return 0;
}

int cli_plan_folder(const struct cli_files *files, const char *path, const char *wanted,
                    struct cli_plan *ret, struct dbx_err *err)
{
    struct cli_plan plan = {.plain = true};
    const char *name = wanted ? wanted : cli_guess(files);
    if (!name)
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "what is '%s' written in? There is no main.py, main.js, package.json, "
                           "go.mod, main.go, Cargo.toml or main.rs in it; say --template NAME",
                           path);
    int r = take_name(&plan, name, err);
    if (r == 0)
        *ret = plan;
    return r;
}

static const char *extension_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? dot + 1 : "";
}

/* The list is bare or a page of items. */
static const struct dbx_json *list_of(const struct dbx_json *templates)
{
    const struct dbx_json *items = dbx_json_get(templates, "items");
    return items ? items : templates;
}

static bool has_extension(const struct dbx_json *tpl, const char *extension)
{
    const struct dbx_json *all = dbx_json_get(tpl, "extensions");
    for (size_t i = 0; i < dbx_json_count(all); i++)
        if (dbx_streq(dbx_json_str(dbx_json_at(all, i), NULL), extension))
            return true;
    return false;
}

static void list_names(const struct dbx_json *list, struct dbx_buf *out)
{
    for (size_t i = 0; i < dbx_json_count(list); i++) {
        const char *name = dbx_json_get_str(dbx_json_at(list, i), "name");
        (void)dbx_buf_printf(out, "%s%.64s", i ? ", " : "", name ? name : "?");
    }
}

static int no_template(const struct dbx_json *list, const char *path, const char *wanted,
                       struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf names = {0};
    dbx_buf_init(&names, 160);
    list_names(list, &names);
    const char *ext = extension_of(path);
    if (wanted)
        return dbx_err_set(err, -ENOENT, DBX_INVALID, "there is no template '%.64s'; there are: %s",
                           wanted, dbx_buf_cstr(&names));
    if (!*ext)
        return dbx_err_set(err, -ENOENT, DBX_INVALID,
                           "'%.60s' has no extension to tell its language; say --template NAME: %s",
                           path, dbx_buf_cstr(&names));
    return dbx_err_set(err, -ENOENT, DBX_INVALID,
                       "no template is for files that end in .%.16s; say --template NAME: %s", ext,
                       dbx_buf_cstr(&names));
}

int cli_plan_file(const struct dbx_json *templates, const char *path, const char *wanted,
                  struct cli_plan *ret, struct dbx_err *err)
{
    struct cli_plan plan = {0};
    const struct dbx_json *list = list_of(templates), *found = NULL;
    const char *own = extension_of(path), *usual = NULL;
    if (dbx_json_type(list) != DBX_JSON_ARRAY)
        return dbx_err_set(err, -EBADMSG, DBX_INTERNAL, "the gateway's list of templates is none");
    for (size_t i = 0; i < dbx_json_count(list) && !found; i++) {
        const struct dbx_json *tpl = dbx_json_at(list, i);
        if (wanted ? dbx_streq(dbx_json_get_str(tpl, "name"), wanted) : has_extension(tpl, own))
            found = tpl;
    }
    const char *name = dbx_json_get_str(found, "name");
    usual = dbx_json_str(dbx_json_at(dbx_json_get(found, "extensions"), 0), NULL);
    if (!name || !usual)
        return no_template(list, path, wanted, err);
    plan.plain = dbx_streq(own, usual) || !has_extension(found, own);
    if (!dbx_strcpy(plan.extension, sizeof(plan.extension), plan.plain ? usual : own))
        return dbx_err_set(err, -EBADMSG, DBX_INTERNAL, "the extension '.%.40s' is too long",
                           plan.plain ? usual : own);
    int r = take_name(&plan, name, err);
    if (r == 0)
        *ret = plan;
    return r;
}

static const struct runner *runner_of(const char *template)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(runners); i++)
        if (strcmp(runners[i].template, template) == 0)
            return &runners[i];
    return NULL;
}

/* The command is left to DevBox unless there are arguments, or the file is one of another name
 * (main.mjs). */
static int write_command(struct dbx_jw *w, const struct cli_plan *plan,
                         const struct cli_files *files, char *const *args, struct dbx_err *err)
{
    const struct runner *run = runner_of(plan->template);
    if (!args[0] && (plan->plain || !run))
        return 0;
    if (!run)
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "how a program of template '%s' takes arguments is not known",
                           plan->template);
    dbx_jw_key(w, "command");
    dbx_jw_array(w);
    dbx_jw_str(w, run->program);
    if (run->entry && plan->extension[0]) {
        char name[32];
        snprintf(name, sizeof(name), "main.%s", plan->extension);
        dbx_jw_str(w, name);
    } else if (run->entry) {
        dbx_jw_str(w, cli_files_find(files, run->entry) ? run->entry : run->otherwise);
    }
    for (size_t i = 0; args[i]; i++) {
        if (!dbx_utf8_valid(args[i], strlen(args[i])))
            return dbx_err_set(err, -EINVAL, DBX_INVALID, "argument %zu is not UTF-8", i + 1);
        dbx_jw_str(w, args[i]);
    }
    dbx_jw_array_end(w);
    return 0;
}

static void write_file(struct dbx_jw *w, const struct cli_plan *plan, const struct cli_file *f)
{
    char name[32];
    snprintf(name, sizeof(name), "main.%s", plan->extension);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "path", plan->extension[0] ? name : f->path);
    /* NUL would take six bytes as JSON text. */
    if (f->size == 0 || (dbx_utf8_valid(f->data, f->size) && !memchr(f->data, 0, f->size))) {
        dbx_jw_key(w, "content");
        dbx_jw_strn(w, f->size ? (const char *)f->data : "", f->size);
    } else {
        DBX_CLEANUP(dbx_freep) char *text = dbx_malloc((f->size + 2) / 3 * 4 + 1);
        size_t len = dbx_base64_encode(f->data, f->size, text, false);
        dbx_jw_key(w, "content_base64");
        dbx_jw_strn(w, text, len);
    }
    dbx_jw_object_end(w);
}

int cli_plan_body(const struct cli_plan *plan, const struct cli_files *files, char *const *args,
                  struct dbx_buf *out, struct dbx_err *err)
{
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "template", plan->template);
    dbx_jw_key(w, "files");
    dbx_jw_array(w);
    for (size_t i = 0; i < files->n; i++)
        write_file(w, plan, &files->v[i]);
    dbx_jw_array_end(w);
    int r = write_command(w, plan, files, args, err);
    if (r < 0) {
        (void)!dbx_jw_end(&w);
        return r;
    }
    dbx_jw_object_end(w);
    r = dbx_jw_end(&w);
    if (r < 0)
        return dbx_err_set(err, r, DBX_LIMIT,
                           "the files are too large to be sent: more than %zu MiB", out->max >> 20);
    return 0;
}

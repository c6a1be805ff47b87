/* SPDX-License-Identifier: Apache-2.0 */
/* Shows bundles-core to the system tests.
 *   bundle-probe plan TEMPLATES TEMPLATE DIR [COMMAND]   what an execution of the files in DIR
 * would do, as JSON bundle-probe bundle KEY=VALUE... [-- INIT ARGS]      makes a bundle and prints
 * the arguments of `runsc run`, each ended by NUL Keys of bundle: cache templates template work
 * runsc init disk shm layers cgroup memory id caps */
#include "bundles/bundles.h"
#include "common/base/str.h"
#include "common/ext/json.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const struct dbx_err *err)
{
    fprintf(stderr, "bundle-probe: %s%s%s\n", err->field, err->field[0] ? ": " : "", err->msg);
    return 1;
}

static bool dir_has(void *ctx, const char *path)
{
    DBX_CLEANUP(dbx_freep) char *full = dbx_asprintf("%s/%s", (const char *)ctx, path);
    return access(full, R_OK) == 0;
}

static bool dir_has_suffix(void *ctx, const char *suffix)
{
    bool found = false;
    DIR *d = opendir(ctx);
    for (struct dirent *de; d && (de = readdir(d));) {
        size_t len = strlen(de->d_name), tail = strlen(suffix);
        found = found || (len > tail && strcmp(de->d_name + len - tail, suffix) == 0);
    }
    if (d)
        closedir(d);
    return found;
}

static int dir_read(void *ctx, const char *path, struct dbx_buf *out)
{
    DBX_CLEANUP(dbx_freep) char *full = dbx_asprintf("%s/%s", (const char *)ctx, path);
    FILE *f = fopen(full, "re");
    char chunk[4096];
    int rc = f ? 0 : -errno;
    for (size_t n; f && rc == 0 && (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        rc = dbx_buf_append(out, chunk, n);
    if (f)
        fclose(f);
    return rc;
}

static void write_list(struct dbx_jw *w, const char *key, const char *const *list)
{
    dbx_jw_key(w, key);
    if (!list) {
        dbx_jw_null(w);
        return;
    }
    dbx_jw_array(w);
    for (; *list; list++)
        dbx_jw_str(w, *list);
    dbx_jw_array_end(w);
}

static int print_plan(const struct bnd_template *tpl, const struct bnd_plan *plan)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {0};
    dbx_buf_init(&out, 1u << 20);
    struct dbx_jw *w = dbx_jw_new(&out);
    dbx_jw_object(w);
    write_list(w, "compile", (const char *const *)plan->compile_argv);
    write_list(w, "run", (const char *const *)plan->run_argv);
    write_list(w, "env", tpl->env);
    dbx_jw_key(w, "extra");
    dbx_jw_object(w);
    for (size_t i = 0; i < plan->n_extra; i++)
        dbx_jw_kstr(w, plan->extra[i].path, plan->extra[i].data);
    dbx_jw_object_end(w);
    dbx_jw_object_end(w);
    if (dbx_jw_end(&w) < 0)
        return 1;
    puts(dbx_buf_cstr(&out));
    return 0;
}

static int do_plan(int argc, char **argv)
{
    DBX_CLEANUP(bnd_store_freep) struct bnd_store *store = NULL;
    struct dbx_err err = {0};
    struct bnd_plan plan = {0};
    if (argc < 3)
        return 2;
    if (bnd_store_open("/nonexistent", argv[0], &store, &err) < 0)
        return fail(&err);
    const struct bnd_template *tpl = bnd_template_find(store, argv[1]);
    const struct bnd_files files = {argv[2], dir_has, dir_has_suffix, dir_read};
    if (!tpl)
        return 2;
    if (bnd_plan(tpl, &files, argc > 3 ? argv[3] : NULL, NULL, &plan, &err) < 0)
        return fail(&err);
    int rc = print_plan(tpl, &plan);
    bnd_plan_done(&plan);
    return rc;
}

static const char *value_of(char **args, const char *key)
{
    size_t len = strlen(key);
    for (; *args && strcmp(*args, "--") != 0; args++)
        if (strncmp(*args, key, len) == 0 && (*args)[len] == '=')
            return *args + len + 1;
    return NULL;
}

static uint64_t number_of(char **args, const char *key, uint64_t otherwise)
{
    const char *s = value_of(args, key);
    uint64_t v = otherwise;
    return s && dbx_parse_u64(s, strlen(s), 0, UINT64_MAX, &v) < 0 ? 0 : v;
}

static int do_bundle(char **args)
{
    DBX_CLEANUP(bnd_store_freep) struct bnd_store *store = NULL;
    struct dbx_err err = {0};
    char **init_args = args;
    while (*init_args && strcmp(*init_args, "--") != 0)
        init_args++;
    init_args += *init_args != NULL;
    const char *work = value_of(args, "work"), *template = value_of(args, "template");
    if (bnd_store_open(value_of(args, "cache"), value_of(args, "templates"), &store, &err) < 0 ||
        bnd_store_refresh(store, NULL, &err) < 0)
        return fail(&err);
    const struct bnd_template *tpl = bnd_template_find(store, template);
    if (!tpl || !tpl->image)
        return fail(&err);
    DBX_CLEANUP(dbx_freep) char *overlay = dbx_asprintf("%s/overlay", work);
    DBX_CLEANUP(dbx_freep) char *root = dbx_asprintf("%s/root", work);
    DBX_CLEANUP(dbx_freep) char *log = dbx_asprintf("%s/log", work);
    DBX_CLEANUP(dbx_freep) char *bundle = dbx_asprintf("%s/bundle", work);
    const struct bnd_spec_opts spec = {.id = value_of(args, "id"),
                                       .image = tpl->image,
                                       .overlay_dir = overlay,
                                       .disk_bytes = number_of(args, "disk", 256u << 20),
                                       .shm_bytes = number_of(args, "shm", 64u << 20),
                                       .init_dir = value_of(args, "init"),
                                       .init_args = (const char *const *)init_args,
                                       .layers_dir = value_of(args, "layers"),
                                       .cgroup_path = value_of(args, "cgroup"),
                                       .memory_bytes = number_of(args, "memory", 0),
                                       .caps = (uint32_t)number_of(args, "caps", BND_CAPS_INIT)};
    const struct bnd_runsc_opts runsc = {.runsc = value_of(args, "runsc"),
                                         .root = root,
                                         .log = log,
                                         .overlay_dir = overlay,
                                         .directfs = spec.layers_dir != NULL,
                                         .ignore_cgroups = spec.cgroup_path == NULL};
    if (bnd_bundle_create(bundle, &spec, &err) < 0)
        return fail(&err);
    const char *const command[] = {"run", "--bundle", bundle, spec.id, NULL};
    DBX_CLEANUP(bnd_argv_freep) char **argv = bnd_runsc_args(&runsc, command);
    for (char **a = argv; *a; a++)
        fwrite(*a, 1, strlen(*a) + 1, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "plan") == 0)
        return do_plan(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "bundle") == 0)
        return do_bundle(argv + 2);
    if (argc == 3 && strcmp(argv[1], "release") == 0) {
        bnd_runsc_root_release(argv[2]);
        return 0;
    }
    fprintf(stderr, "usage: bundle-probe plan|bundle|release ...\n");
    return 2;
}

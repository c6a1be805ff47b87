/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/launch.h"

#include "common/base/str.h"
#include "common/proto/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define STACK_SOFT (8u << 20)

/* ---- the plan ---- */

static bool pretend_has(void *ctx, const char *path)
{
    (void)ctx;
    (void)path;
    return true;
}

static int pretend_read(void *ctx, const char *path, struct dbx_buf *out)
{
    (void)ctx;
    (void)path;
    (void)out;
    return -ENOENT;
}

int shim_launch_plan(const struct bnd_template *tpl, const struct shim_request *rq,
                     struct bnd_plan *ret, struct dbx_err *err)
{
    struct bnd_files_block block = {rq->files.data, rq->files.len};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf none;
    dbx_buf_init(&none, DBX_MAX_HEADER);
    if (block.len == 0) {
        int r = dbx_files_begin(&none);
        if (r < 0)
            return dbx_err_set(err, r, DBX_LIMIT, "no memory");
        block = (struct bnd_files_block){none.data, none.len};
    }
    struct bnd_files files = bnd_files_of_block(&block);
    int r = bnd_plan(tpl, &files, rq->command_shell, rq->command_argv, ret, err);
    if (r == 0 || !err || strcmp(err->field, "files") != 0)
        return r;
    struct bnd_files pretend = {
        .has = pretend_has, .has_suffix = pretend_has, .read = pretend_read};
    struct dbx_err ignored = {0};
    return bnd_plan(tpl, &pretend, rq->command_shell, rq->command_argv, ret, &ignored) < 0 ? r : 0;
}

static int add_text(struct dbx_buf *out, const struct bnd_extra_file *x)
{
    struct dbx_file f = {.mode = x->mode,
                         .path = x->path,
                         .path_len = (uint16_t)strlen(x->path),
                         .data = (const uint8_t *)x->data,
                         .size = strlen(x->data)};
    return dbx_files_add(out, &f);
}

int shim_launch_files(const struct shim_request *rq, const struct bnd_plan *plan,
                      struct dbx_buf *out, struct dbx_err *err)
{
    struct dbx_file f;
    size_t at = 0;
    int r, more = 0;
    dbx_buf_init(out, INIT_MAX_FILES_BODY - 4096); /* leaves room for the path of the root */
    if (plan->n_extra == 0 && rq->files.len > 0) {
        r = dbx_buf_append(out, rq->files.data, rq->files.len);
        return r < 0 ? dbx_err_set(err, r, DBX_LIMIT, "no memory for the files") : 0;
    }
    r = dbx_files_begin(out);
    while (r == 0 && rq->files.len > 0 &&
           (more = dbx_files_next(rq->files.data, rq->files.len, &at, &f)) > 0)
        r = dbx_files_add(out, &f);
    for (size_t i = 0; r == 0 && more >= 0 && i < plan->n_extra; i++)
        r = add_text(out, &plan->extra[i]);
    if (r == 0 && more < 0)
        r = more;
    return r < 0 ? dbx_err_set(err, r, DBX_LIMIT, "the files do not fit into a block") : 0;
}

/* ---- environment ---- */

static size_t count_words(char *const *words)
{
    size_t n = 0;
    while (words && words[n])
        n++;
    return n;
}

static size_t find_name(char **env, size_t n, const char *word)
{
    size_t len = strcspn(word, "=");
    for (size_t i = 0; i < n; i++)
        if (strncmp(env[i], word, len) == 0 && env[i][len] == '=')
            return i;
    return n;
}

static void put_word(char **env, size_t *n, const char *word, bool replace)
{
    size_t i = find_name(env, *n, word);
    if (i == *n)
        (*n)++;
    else if (!replace)
        return;
    free(env[i]);
    env[i] = dbx_strdup(word);
}

char **shim_launch_env(const struct bnd_template *tpl, bool workspace, char *const *more)
{
    static const char *const always[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=" BND_HOME_DIR,
        "USER=dev",
        "LANG=C.UTF-8",
        "PWD=" BND_WORK_DIR,
    };
    char *const *registry = workspace ? (char *const *)tpl->registry_env : NULL;
    size_t n = 0, n_more = count_words(more), n_tpl = count_words((char *const *)tpl->env),
           n_registry = count_words(registry);
    char **env =
        dbx_calloc(n_tpl + n_registry + DBX_ARRAY_LEN(always) + n_more + 2, sizeof(char *));
    for (size_t i = 0; i < n_tpl; i++)
        put_word(env, &n, tpl->env[i], true);
    for (size_t i = 0; i < DBX_ARRAY_LEN(always); i++)
        put_word(env, &n, always[i], false);
    for (size_t i = 0; i < n_registry; i++)
        put_word(env, &n, registry[i], true);
    for (size_t i = 0; i < n_more; i++)
        put_word(env, &n, more[i], true);
    return env;
}

char **shim_launch_parked_env(const struct bnd_template *tpl)
{
    return shim_launch_env(tpl, false, (char *const *)tpl->parked.env);
}

char **shim_launch_server_env(const struct bnd_template *tpl)
{
    size_t n = count_words((char *const *)tpl->parked.env);
    char **more = dbx_calloc(n + 3, sizeof(char *));
    for (size_t i = 0; i < n; i++)
        more[i] = (char *)tpl->parked.env[i];
    more[n] = (char *)"DEVBOX_FORK=1";
    more[n + 1] = (char *)"LD_PRELOAD=" BND_PARKED_DIR "/fork.so";
    char **env = shim_launch_env(tpl, false, more);
    free(more);
    return env;
}

bool shim_launch_may_parked(const struct bnd_template *tpl, char *const *argv, char *const *more)
{
    const struct bnd_parked *k = &tpl->parked;
    if (!k->run)
        return false;
    for (size_t i = 0; k->run[i]; i++)
        if (!argv[i] || strcmp(argv[i], k->run[i]) != 0)
            return false;
    for (size_t i = 0; more && more[i]; i++)
        for (size_t j = 0; k->unless[j]; j++)
            if (dbx_starts_with(more[i], k->unless[j]))
                return false;
    return true;
}

char **shim_launch_env_free(char **env)
{
    for (size_t i = 0; env && env[i]; i++)
        free(env[i]);
    free(env);
    return NULL;
}

/* The cgroup bills CPU time; RLIMIT_CPU is the second line, for when the shim is away. It is far
 * behind the first because gVisor counts a task that only waits for a CPU of the host as running:
 * on a busy machine, or with many threads, its clock runs up to that many times too fast, and the
 * verdict would be SIGNAL. Hard limits are soft ones, except for the stack, which a program may
 * want deeper. */
void shim_launch_rlimits(const struct dbx_limits *l,
                         struct init_rlimit out[static SHIM_LAUNCH_RLIMITS])
{
    uint64_t cpu = ((uint64_t)(l->cpu_ms + 999) / 1000 + 1) * (uint64_t)l->processes,
             disk = (uint64_t)l->disk_mb << 20;
    const struct init_rlimit limits[SHIM_LAUNCH_RLIMITS] = {
        {.resource = RLIMIT_NPROC, .soft = (uint64_t)l->processes, .hard = (uint64_t)l->processes},
        {.resource = RLIMIT_NOFILE,
         .soft = (uint64_t)l->open_files,
         .hard = (uint64_t)l->open_files},
        {.resource = RLIMIT_CORE, .soft = 0, .hard = 0},
        {.resource = RLIMIT_CPU, .soft = cpu, .hard = cpu + 1},
        {.resource = RLIMIT_FSIZE, .soft = disk, .hard = disk},
        {.resource = RLIMIT_STACK, .soft = STACK_SOFT, .hard = UINT64_MAX},
    };
    memcpy(out, limits, sizeof(limits));
    for (size_t i = 0; i < SHIM_LAUNCH_RLIMITS && l->cpu_ms == 0; i++)
        if (out[i].resource == RLIMIT_CPU)
            out[i].soft = out[i].hard = UINT64_MAX;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The dependencies of a workspace's process, before it is started. When its files hold a lock file
 * and nothing of that is installed yet, the layer of the lock file is laid over the place: at once
 * when the node has it. Else it is made, and the process waits: that is its compile phase, whose
 * output is what the installer says. A terminal does not wait; it has the layer when it is there.
 *
 * What the user installed is left alone, and a lock file that makes no layer is the user's own
 * affair. */
#include "shim/exec_int.h"

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "shim/box_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DAY_US 86400000000ll
#define MAX_SAID (1u << 20)

const struct dbx_limits shim_exec__install_limits = {.output_bytes = 16 << 20, .memory_mb = 1};

static void attach_later(struct shim_exec *ex, const char *name);

void shim_exec__install_drop(struct shim_exec *ex)
{
    shim_deps_wait_free(DBX_TAKE(ex->layer_wait));
    dbx_closep(&ex->install_fd);
}

/* ---- the compile phase ---- */

int shim_exec__install(struct shim_exec *ex, int out)
{
    ex->install_fd = fcntl(out, F_DUPFD_CLOEXEC, 3);
    if (ex->install_fd < 0)
        return -errno;
    (void)dbx_set_nonblock(ex->install_fd, true);
    shim_exec__arm(ex, SHIM_DEPS_BUILD_MS + 60000);
    return 0;
}

void shim_exec__install_end(struct shim_exec *ex, int exit_code)
{
    struct shim_exec_phase *ph = &ex->compile;
    if (ph->exited)
        return;
    shim_exec__install_drop(ex);
    ph->exited = ph->others_gone = ph->ending.exited = true;
    ph->exited_ms = dbx_now_ms();
    ph->ending.exit_code = exit_code;
    ph->outcome.usage.wall_ms = (int64_t)(ph->exited_ms - ph->ordered_ms);
    shim_exec__set_state(ex, SHIM_EX_DRAINING);
    shim_exec__save(ex);
    shim_ship_hurry(ph->ship); /* it is over when the pipe's end has been read */
}

/* A viewer's sight of it is no reason to hold the installer back: what does not fit is left out. */
static void on_text(const void *data, size_t len, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    if (ex->install_fd < 0 || ex->install_bytes > MAX_SAID)
        return;
    ssize_t n = write(ex->install_fd, data, len);
    ex->install_bytes += n > 0 ? (size_t)n : 0;
}

static void on_made(const char *name, int exit_code, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    char words[320];
    ex->layer_wait = NULL;
    if (name && ex->sb) {
        attach_later(ex, name);
    } else if (!name) {
        snprintf(words, sizeof(words), "%s: dependencies are not installed: %s\n",
                 ex->layer.what->lock, err->msg);
        on_text(words, strlen(words), ex);
    }
    shim_exec__install_end(ex, name || exit_code < 0 ? 0 : exit_code);
}

static void install(struct shim_exec *ex)
{
    static const struct shim_deps_handlers h = {.on_text = on_text, .on_done = on_made};
    ex->installing = true;
    ex->refs++;
    shim_exec__phase_begin(ex, &ex->compile);
    if (ex->install_fd >= 0)
        ex->layer_wait =
            shim_deps_get(ex->execs->opts.deps, ex->tpl, &ex->layer, &ex->rq->owner, &h, ex);
    shim_exec__unref(ex);
}

/* ---- without waiting ---- */

static void on_made_meanwhile(const char *name, int exit_code, const struct dbx_err *err,
                              void *user)
{
    (void)name;
    (void)exit_code;
    (void)err;
    (void)user;
}

static void make_meanwhile(struct shim_exec *ex)
{
    static const struct shim_deps_handlers h = {.on_done = on_made_meanwhile};
    (void)shim_deps_get(ex->execs->opts.deps, ex->tpl, &ex->layer, &ex->rq->owner, &h, NULL);
}

/* ---- attaching ---- */

static void observe(uint64_t since_ns)
{
    static struct dbx_metric *seconds;
    if (!seconds)
        seconds = dbx_histogram("devbox_shim_layer_attach_seconds", NULL,
                                "Attaching a dependency layer that the node has");
    dbx_metric_observe(seconds, (double)(dbx_now_ns() - since_ns) / 1e9);
}

/* Requests are carried out in order: the process that is started next has it. */
static void on_attached_later(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    (void)value;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "its layer is not attached: %s", err->msg);
    shim_exec__unref(ex);
}

static void attach_later(struct shim_exec *ex, const char *name)
{
    if (ex->box)
        ex->box->layer_revision = ex->rq->revision;
    if (shim_init_layer(shim_sandbox_init(ex->sb), ex->layer.what->into, name, BND_USER_UID,
                        BND_USER_GID, on_attached_later, ex) == 0)
        ex->refs++;
}

/* Of the answer: whether a layer has to be made. */
static bool is_wanted(struct shim_exec *ex, const struct dbx_err *err)
{
    if (err && err->code == -ENOTEMPTY) { /* the user's own installation */
        ex->box->layer_revision = ex->rq->revision;
        return false;
    }
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, &ex->log_trace, "its layer is not attached: %s", err->msg);
    return !err;
}

static void on_asked(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    (void)value;
    bool wanted = ex->state == SHIM_EX_PREPARING && ex->box && is_wanted(ex, err);
    if (ex->state != SHIM_EX_PREPARING) {
        ; /* ended meanwhile */
    } else if (wanted && !ex->rq->cols) {
        install(ex);
    } else {
        if (wanted)
            make_meanwhile(ex);
        shim_exec__begin_phases(ex);
    }
    shim_exec__unref(ex);
}

static void on_attached(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_exec *ex = DBX_CAST(struct shim_exec, SHIM_EXEC_MAGIC, user);
    (void)value;
    if (ex->state == SHIM_EX_PREPARING) {
        if (ex->box && is_wanted(ex, err)) {
            ex->box->layer_revision = ex->rq->revision;
            observe(ex->layer_ns);
        }
        shim_exec__begin_phases(ex);
    }
    shim_exec__unref(ex);
}

bool shim_exec__find_layer(struct shim_exec *ex)
{
    struct shim_deps *deps = ex->execs->opts.deps;
    struct bnd_files_block block = {ex->rq->files.data, ex->rq->files.len};
    struct bnd_files files = bnd_files_of_block(&block);
    struct dbx_err why = {0};
    ex->layered = true;
    ex->layer_ns = dbx_now_ns();
    if (!deps || !ex->tpl->n_dependencies || !block.len ||
        ex->box->layer_revision == ex->rq->revision)
        return false;
    if (bnd_deps_find(ex->tpl, &files, dbx_wall_us() / DAY_US, &ex->layer, &why) == 0) {
        if (why.code)
            dbx_log(DBX_LOG_INFO, &ex->log_trace, "no layer: %s %s", why.field, why.msg);
        ex->box->layer_revision = ex->rq->revision;
        return false;
    }
    const char *name = shim_deps_use(deps, ex->layer.key);
    if (shim_init_layer(shim_sandbox_init(ex->sb), ex->layer.what->into, name ? name : "",
                        BND_USER_UID, BND_USER_GID, name ? on_attached : on_asked, ex) < 0)
        return false;
    ex->refs++;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/seat.h"

#include "common/base/buf.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/io/loop.h"
#include "shim/init_client.h"
#include "shim/reap.h"
#include "shim/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAKE_MS 20         /* after one was taken: the start that took it comes first */
#define MAKE_AGAIN_MS 1000 /* after one could not be made */
#define REMOVE_MS 5

struct seat {
    struct dbx_list node; /* seats->all */
    struct shim_seats *seats;
    struct shim_seat is;
    bool ended; /* reaped, or never there: only the cgroup is left */
};

struct shim_seats {
    const struct shim_node *node;
    uint32_t count;
    struct dbx_list all;
    struct dbx_timer *timer; /* owned: makes the next, or removes what is left */
    void (*fn)(void *user);  /* set: it is ending */
    void *user;
};

/* ---- one ---- */

static void seat_free(struct seat *s)
{
    dbx_list_remove(&s->node);
    dbx_close(s->is.words);
    dbx_close(s->is.control);
    shim_cgroup_free(s->is.cg);
    free(s);
}

static void on_exit_of(pid_t pid, int status, void *user)
{
    struct seat *s = user;
    char words[64];
    (void)pid;
    s->ended = true;
    if (s->seats->fn)
        return;
    shim_status_words(status, words, sizeof(words));
    dbx_log(DBX_LOG_WARN, s->seats->node->log, "who waited in a cgroup made ahead %s", words);
    dbx_timer_start(s->seats->timer, MAKE_AGAIN_MS, 0);
}

static int spawn(struct seat *s, struct dbx_err *err)
{
    const struct shim_node *node = s->seats->node;
    DBX_CLEANUP(dbx_closep) int theirs = -1;
    DBX_CLEANUP(dbx_closep) int read_end = -1;
    int control[2], words[2];
    int r = shim_init_socketpair(control, err);
    if (r < 0)
        return r;
    s->is.control = control[0];
    theirs = control[1];
    if (pipe2(words, O_CLOEXEC) < 0)
        return dbx_err_sys(err, "make a pipe");
    s->is.words = words[1];
    read_end = words[0];
    const struct shim_spawn sp = {
        .shim_exec = node->shim_exec,
        .cgroup_dirs = shim_cgroup_dirs(s->is.cg),
        .fds = {theirs, -1, -1},
        .words = read_end,
    };
    return shim_spawn(node->reaper, &sp, on_exit_of, s, &s->is.pid, err);
}

static int make(struct shim_seats *ss, struct dbx_err *err)
{
    char id[DBX_ID_TEXT];
    struct seat *s = DBX_NEW(struct seat);
    *s = (struct seat){.seats = ss, .is = {.id = dbx_id_new(), .words = -1, .control = -1}};
    dbx_list_push(&ss->all, &s->node);
    dbx_id_format(&s->is.id, id);
    int r = shim_cgroup_create(ss->node->cgroups, id, false, &(struct shim_cgroup_limits){0},
                               &s->is.cg, err);
    if (r == 0)
        r = spawn(s, err);
    if (r < 0) {
        if (s->is.cg)
            (void)shim_cgroup_remove(s->is.cg); /* nobody is in it */
        seat_free(s);
    }
    return r;
}

/* ---- all ---- */

/* 0: nothing is left of it. */
static int remove_seat(struct seat *s)
{
    if (!s->ended)
        return -EAGAIN;
    int r = shim_cgroup_remove(s->is.cg);
    if (r == 0)
        seat_free(s);
    return r;
}

static uint32_t tidy(struct shim_seats *ss)
{
    uint32_t left = 0;
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ss->all)
    {
        struct seat *s = dbx_list_entry(it, struct seat, node);
        left += remove_seat(s) != 0;
    }
    return left;
}

static void on_timer(void *user)
{
    struct shim_seats *ss = user;
    struct dbx_err err = {0};
    uint32_t left = tidy(ss);
    if (ss->fn) {
        if (left)
            dbx_timer_start(ss->timer, REMOVE_MS, 0);
        else
            ss->fn(ss->user);
        return;
    }
    if (left >= ss->count)
        return;
    if (make(ss, &err) < 0) {
        dbx_log(DBX_LOG_WARN, ss->node->log, "make a cgroup ahead: %s", err.msg);
        dbx_timer_start(ss->timer, MAKE_AGAIN_MS, 0);
    } else if (left + 1 < ss->count) {
        dbx_timer_start(ss->timer, MAKE_MS, 0);
    }
}

struct shim_seats *shim_seats_new(const struct shim_node *node, uint32_t count)
{
    struct shim_seats *ss = DBX_NEW(struct shim_seats);
    ss->node = node;
    ss->count = count;
    dbx_list_init(&ss->all);
    ss->timer = dbx_timer_new(node->loop, on_timer, ss);
    dbx_timer_start(ss->timer, 0, 0);
    return ss;
}

struct shim_seats *shim_seats_free(struct shim_seats *ss)
{
    if (!ss)
        return NULL;
    while (!dbx_list_empty(&ss->all)) {
        struct seat *s = dbx_list_first(&ss->all, struct seat, node);
        if (!s->ended)
            shim_reap_forget(ss->node->reaper, s->is.pid);
        seat_free(s);
    }
    dbx_timer_free(ss->timer);
    free(ss);
    return NULL;
}

void shim_seats_end(struct shim_seats *ss, void (*fn)(void *user), void *user)
{
    struct dbx_list *it, *tmp;
    ss->fn = fn;
    ss->user = user;
    dbx_list_each(it, tmp, &ss->all)
    {
        struct seat *s = dbx_list_entry(it, struct seat, node);
        if (!s->ended)
            (void)kill(s->is.pid, SIGKILL); /* not reaped yet, so it is the one */
    }
    dbx_timer_start(ss->timer, 0, 0);
}

bool shim_seats_take(struct shim_seats *ss, struct shim_seat *ret)
{
    struct dbx_list *it, *tmp;
    if (!ss || ss->fn)
        return false;
    dbx_list_each(it, tmp, &ss->all)
    {
        struct seat *s = dbx_list_entry(it, struct seat, node);
        if (s->ended)
            continue;
        shim_reap_forget(ss->node->reaper, s->is.pid);
        *ret = s->is;
        dbx_list_remove(&s->node);
        free(s);
        dbx_timer_start(ss->timer, MAKE_MS, 0);
        return true;
    }
    return false;
}

int shim_seat_tell(int *words, char *const *argv)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    dbx_buf_init(&buf, SHIM_EXEC_MAX_WORDS);
    int r = 0;
    for (size_t i = 0; r == 0 && argv[i]; i++)
        r = dbx_buf_append(&buf, argv[i], strlen(argv[i]) + 1);
    if (r == 0 && write(*words, buf.data, buf.len) != (ssize_t)buf.len)
        r = errno ? -errno : -EIO;
    dbx_closep(words);
    return r;
}

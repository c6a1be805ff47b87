/* SPDX-License-Identifier: Apache-2.0 */
/* The keyring of the state folder, as the confined daemons see it: a copy for each of their users,
 * in a folder of the run folder that is shown to them, made anew when the file has changed. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/supervisor/supervisor.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/io/loop.h"

#define LOOK_MS 1000
#define MAX_RING (64u << 10)

struct sup_ring {
    char *from;
    struct stat seen;
    struct {
        char *dir;
        uint32_t uid;
    } user[SUP_RING_USERS];
    size_t n;
    struct dbx_timer *timer;
};

/* It comes into view with its owner: the daemon reads a file when it appears, not when it becomes
 * readable. */
static int put(const struct sup_ring *ring, size_t i, const struct dbx_buf *text,
               struct dbx_err *err)
{
    char beside[PATH_MAX], path[PATH_MAX];
    (void)snprintf(beside, sizeof(beside), "%s/new", ring->user[i].dir);
    (void)snprintf(path, sizeof(path), "%s/%s", ring->user[i].dir, SUP_RING_FILE);
    uint32_t uid = ring->user[i].uid;
    int r = dbx_fs_write_atomic(beside, text->data, text->len, 0400, err);
    if (r == 0 && geteuid() == 0 && chown(beside, uid, uid) < 0)
        r = dbx_err_sys(err, "give '%s'", beside);
    if (r == 0 && rename(beside, path) < 0)
        r = dbx_err_sys(err, "rename '%s'", beside);
    return r;
}

static int copy(struct sup_ring *ring, size_t first, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf text = {0};
    int r = dbx_fs_read(ring->from, MAX_RING, &text, err);
    for (size_t i = first; r == 0 && i < ring->n; i++)
        r = put(ring, i, &text, err);
    if (text.data)
        explicit_bzero(text.data, text.len);
    return r;
}

static void look(void *user)
{
    struct sup_ring *ring = user;
    struct dbx_err err = {0};
    struct stat now = {0};
    (void)stat(ring->from, &now);
    if (now.st_ino == ring->seen.st_ino && now.st_size == ring->seen.st_size &&
        memcmp(&now.st_ctim, &ring->seen.st_ctim, sizeof(now.st_ctim)) == 0)
        return;
    ring->seen = now;
    if (copy(ring, 0, &err) < 0)
        dbx_log(DBX_LOG_ERR, NULL, "hand on %s: %s", ring->from, err.msg);
}

struct sup_ring *sup_ring_new(struct dbx_loop *loop, const char *state_dir)
{
    struct sup_ring *ring = DBX_NEW(struct sup_ring);
    ring->from = dbx_asprintf("%s/keys/%s", state_dir, SUP_RING_FILE);
    (void)stat(ring->from, &ring->seen);
    ring->timer = dbx_timer_new(loop, look, ring);
    dbx_timer_start(ring->timer, LOOK_MS, LOOK_MS);
    return ring;
}

int sup_ring_share(struct sup_ring *ring, const char *run_dir, uint32_t uid, const char **ret_dir,
                   struct dbx_err *err)
{
    dbx_assert(ring->n < SUP_RING_USERS);
    size_t i = 0;
    while (i < ring->n && ring->user[i].uid != uid)
        i++;
    int r = 0;
    if (i == ring->n) {
        ring->user[i].uid = uid;
        ring->user[i].dir = dbx_asprintf("%s/ring-%u", run_dir, uid);
        ring->n++;
        r = dbx_fs_mkdirs(ring->user[i].dir, 0711, err);
        if (r == 0)
            r = copy(ring, i, err);
    }
    *ret_dir = ring->user[i].dir;
    return r;
}

struct sup_ring *sup_ring_free(struct sup_ring *ring)
{
    if (!ring)
        return NULL;
    dbx_timer_free(ring->timer);
    for (size_t i = 0; i < ring->n; i++)
        free(ring->user[i].dir);
    free(ring->from);
    free(ring);
    return NULL;
}

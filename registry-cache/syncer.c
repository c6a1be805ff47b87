/* SPDX-License-Identifier: Apache-2.0 */
/* fsync takes milliseconds, at times seconds: not on the loop. One thread, one queue; the thread
 * touches nothing but its queue and the files of its jobs. */
#include "common/base/fd.h"
#include "common/io/loop.h"
#include "registry-cache/store_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct rc_syncer {
    struct dbx_loop *loop;
    int dirfd; /* borrowed */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct dbx_list todo, done; /* under the lock */
    bool stop;
};

static int sync_file(const struct rc_syncer *sy, const struct rc_sync_job *job)
{
    if (fdatasync(job->fd) < 0)
        return -errno;
    return renameat(sy->dirfd, job->from, sy->dirfd, job->to) < 0 ? -errno : 0;
}

static struct rc_sync_job *take(struct rc_syncer *sy, struct dbx_list *from)
{
    struct rc_sync_job *job = NULL;

    pthread_mutex_lock(&sy->lock);
    if (!dbx_list_empty(from)) {
        job = dbx_list_first(from, struct rc_sync_job, node);
        dbx_list_remove(&job->node);
    }
    pthread_mutex_unlock(&sy->lock);
    return job;
}

static void on_done(void *user)
{
    struct rc_syncer *sy = user;
    struct rc_sync_job *job = take(sy, &sy->done);

    if (job)
        job->done(job);
}

static struct rc_sync_job *wait_for_job(struct rc_syncer *sy)
{
    struct rc_sync_job *job = NULL;

    pthread_mutex_lock(&sy->lock);
    while (dbx_list_empty(&sy->todo) && !sy->stop)
        pthread_cond_wait(&sy->more, &sy->lock);
    if (!dbx_list_empty(&sy->todo)) {
        job = dbx_list_first(&sy->todo, struct rc_sync_job, node);
        dbx_list_remove(&job->node);
    }
    pthread_mutex_unlock(&sy->lock);
    return job;
}

static void *run(void *arg)
{
    struct rc_syncer *sy = arg;
    struct rc_sync_job *job;

    while ((job = wait_for_job(sy))) {
        job->result = sync_file(sy, job);
        pthread_mutex_lock(&sy->lock);
        dbx_list_push(&sy->done, &job->node);
        pthread_mutex_unlock(&sy->lock);
        dbx_loop_post(sy->loop, on_done, sy);
    }
    return NULL;
}

struct rc_syncer *rc_syncer_new(struct dbx_loop *loop, int dirfd)
{
    struct rc_syncer *sy = DBX_NEW(struct rc_syncer);

    sy->loop = loop;
    sy->dirfd = dirfd;
    dbx_list_init(&sy->todo);
    dbx_list_init(&sy->done);
    dbx_assert(pthread_mutex_init(&sy->lock, NULL) == 0);
    dbx_assert(pthread_cond_init(&sy->more, NULL) == 0);
    dbx_assert(pthread_create(&sy->thread, NULL, run, sy) == 0);
    return sy;
}

void rc_syncer_add(struct rc_syncer *sy, struct rc_sync_job *job)
{
    job->syncer = sy;
    pthread_mutex_lock(&sy->lock);
    dbx_list_push(&sy->todo, &job->node);
    pthread_cond_signal(&sy->more);
    pthread_mutex_unlock(&sy->lock);
}

struct rc_syncer *rc_syncer_free(struct rc_syncer *sy)
{
    struct rc_sync_job *job;

    if (!sy)
        return NULL;
    pthread_mutex_lock(&sy->lock);
    sy->stop = true;
    pthread_cond_signal(&sy->more);
    pthread_mutex_unlock(&sy->lock);
    pthread_join(sy->thread, NULL); /* what is queued is done first */
    while ((job = take(sy, &sy->done))) {
        dbx_close(job->fd);
        free(job->user);
        free(job);
    }
    pthread_cond_destroy(&sy->more);
    pthread_mutex_destroy(&sy->lock);
    free(sy);
    return NULL;
}

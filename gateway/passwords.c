/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/passwords.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/base/str.h"
#include "common/io/loop.h"

#define AT_A_TIME 2 /* each 64 MiB and one core */
#define MAX_WAITING 64

/* Of no password that anybody knows. */
static const char nobodys[] = "$argon2id$v=19$m=65536,t=2,p=1$KP1qGhQwUYaw976FyGDkcg$"
                              "4wQ5BJg0mi9o82CrgJ0pJSTva7W1FJf81xt7MalrOO4";

struct job {
    struct dbx_list node;    /* while it waits */
    struct gw_passwords *pw; /* NULL: nobody is interested any more */
    gw_password_fn *fn;
    void *arg;
    char *password; /* owned, wiped */
    bool check, known, matches, failed;
    char hash[DBX_PASSWORD_TEXT];
};

struct gw_passwords {
    struct dbx_loop *loop;
    struct dbx_list waiting, running;
    size_t nwaiting, nrunning;
};

struct gw_passwords *gw_passwords_new(struct dbx_loop *loop)
{
    struct gw_passwords *pw = DBX_NEW(struct gw_passwords);
    pw->loop = loop;
    dbx_list_init(&pw->waiting);
    dbx_list_init(&pw->running);
    return pw;
}

static void job_free(struct job *job)
{
    explicit_bzero(job->password, strlen(job->password));
    free(job->password);
    explicit_bzero(job->hash, sizeof(job->hash));
    free(job);
}

struct gw_passwords *gw_passwords_free(struct gw_passwords *pw)
{
    if (!pw)
        return NULL;
    while (!dbx_list_empty(&pw->waiting)) {
        struct job *job = dbx_list_first(&pw->waiting, struct job, node);
        dbx_list_remove(&job->node);
        job->fn(NULL, false, job->arg);
        job_free(job);
    }
    while (!dbx_list_empty(&pw->running)) {
        struct job *job = dbx_list_first(&pw->running, struct job, node);
        dbx_list_remove(&job->node);
        job->pw = NULL;
        job->fn(NULL, false, job->arg);
    }
    free(pw);
    return NULL;
}

/* On a thread of the pool. */
static void work(void *user)
{
    struct job *job = user;
    size_t len = strlen(job->password);
    if (job->check)
        job->matches = dbx_password_matches(job->hash, job->password, len) && job->known;
    else
        job->failed = dbx_password_hash(job->password, len, job->hash) < 0;
}

static void start_more(struct gw_passwords *pw);

static void on_worked(void *user)
{
    struct job *job = user;
    struct gw_passwords *pw = job->pw;
    if (pw) {
        dbx_list_remove(&job->node);
        pw->nrunning--;
        start_more(pw);
        job->fn(job->failed || job->check ? NULL : job->hash, job->matches, job->arg);
    }
    job_free(job);
}

static void start_more(struct gw_passwords *pw)
{
    while (pw->nrunning < AT_A_TIME && !dbx_list_empty(&pw->waiting)) {
        struct job *job = dbx_list_first(&pw->waiting, struct job, node);
        dbx_list_remove(&job->node);
        dbx_list_push(&pw->running, &job->node);
        pw->nwaiting--;
        pw->nrunning++;
        dbx_loop_work(pw->loop, work, on_worked, job);
    }
}

static int add(struct gw_passwords *pw, const char *hash, bool check, const char *password,
               gw_password_fn *fn, void *arg)
{
    if (pw->nwaiting >= MAX_WAITING)
        return -EAGAIN;
    struct job *job = DBX_NEW(struct job);
    job->pw = pw;
    job->fn = fn;
    job->arg = arg;
    job->check = check;
    job->known = hash && dbx_strcpy(job->hash, sizeof(job->hash), hash);
    if (!job->known)
        (void)dbx_strcpy(job->hash, sizeof(job->hash), nobodys);
    job->password = dbx_strdup(password);
    dbx_list_push(&pw->waiting, &job->node);
    pw->nwaiting++;
    start_more(pw);
    return 0;
}

int gw_password_hash(struct gw_passwords *pw, const char *password, gw_password_fn *fn, void *arg)
{
    return add(pw, NULL, false, password, fn, arg);
}

int gw_password_check(struct gw_passwords *pw, const char *hash, const char *password,
                      gw_password_fn *fn, void *arg)
{
    return add(pw, hash, true, password, fn, arg);
}

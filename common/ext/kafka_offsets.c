/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of a topic's partitions. librdkafka 2.0.2 asks for them by a call that blocks, so a
 * thread of its own does. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/ext/kafka_int.h"
#include "common/io/loop.h"

#define QUERY_MS 2000
#define RETRY_MS 200

struct bound {
    _Atomic int64_t oldest, next; /* -1: never heard */
    _Atomic uint64_t answered;    /* the ticket they answer */
    _Atomic uint64_t heard_ms;    /* when */
};

struct dbx_kafka_offsets {
    rd_kafka_t *rk;
    char *topic;
    int partitions;
    uint32_t period_ms;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;       /* under lock */
    uint64_t ticket; /* under lock; the last one given out */
    struct bound *bounds;
    int told_fd; /* written by the thread after each round */
    struct dbx_watch *watch;
    void (*on_answer)(void *user);
    void *user;
};

/* offsets_for_times with the protocol's special times: -1 asks for the end, -2 for the beginning. A
 * partition that has no leader answers -1 here. */
static void ask(struct dbx_kafka_offsets *o, int64_t when, int64_t *out)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(o->partitions);
    for (int i = 0; i < o->partitions; i++) {
        rd_kafka_topic_partition_list_add(l, o->topic, i)->offset = when;
        out[i] = -1;
    }
    if (rd_kafka_offsets_for_times(o->rk, l, QUERY_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
        for (int i = 0; i < l->cnt; i++)
            if (l->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
                out[l->elems[i].partition] = l->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(l);
}

/* Returns whether every partition answered. */
static bool ask_all(struct dbx_kafka_offsets *o, uint64_t ticket)
{
    int64_t *oldest = dbx_calloc((size_t)o->partitions, sizeof(*oldest));
    int64_t *next = dbx_calloc((size_t)o->partitions, sizeof(*next));
    bool all = true;
    ask(o, -2, oldest);
    ask(o, -1, next);
    for (int i = 0; i < o->partitions; i++) {
        if (oldest[i] < 0 || next[i] < 0) {
            all = false;
            continue;
        }
        atomic_store(&o->bounds[i].oldest, oldest[i]);
        atomic_store(&o->bounds[i].next, next[i]);
        atomic_store(&o->bounds[i].answered, ticket);
        atomic_store(&o->bounds[i].heard_ms, dbx_now_ms());
    }
    free(oldest);
    free(next);
    return all;
}

static void wait_ms(struct dbx_kafka_offsets *o, uint32_t ms, uint64_t answered)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!o->stop && o->ticket == answered &&
           pthread_cond_timedwait(&o->wake, &o->lock, &until) == 0)
        ;
}

static void *offsets_thread(void *arg)
{
    struct dbx_kafka_offsets *o = arg;
    bool ok = true;
    pthread_mutex_lock(&o->lock);
    for (uint64_t asked = 0; !o->stop;) {
        wait_ms(o, ok ? o->period_ms : RETRY_MS, asked);
        if (o->stop)
            break;
        asked = o->ticket;
        pthread_mutex_unlock(&o->lock);
        ok = ask_all(o, asked);
        (void)!write(o->told_fd, &(uint64_t){1}, sizeof(uint64_t));
        pthread_mutex_lock(&o->lock);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

static void on_told(void *user, int events, int error)
{
    struct dbx_kafka_offsets *o = user;
    (void)events, (void)error;
    dbx_kafka__drain_fd(o->told_fd);
    o->on_answer(o->user);
}

struct dbx_kafka_offsets *dbx_kafka_offsets_new(const struct dbx_kafka_opts *opts,
                                                const char *topic, int partitions,
                                                uint32_t period_ms, void (*on_answer)(void *user),
                                                void *user, struct dbx_err *err)
{
    rd_kafka_conf_t *conf = NULL;
    rd_kafka_t *rk = NULL;
    pthread_condattr_t monotonic;
    if (dbx_kafka__conf(opts, &conf, err) < 0 ||
        dbx_kafka__new(RD_KAFKA_PRODUCER, conf, &rk, err) < 0)
        return NULL;
    struct dbx_kafka_offsets *o = DBX_NEW(struct dbx_kafka_offsets);
    o->rk = rk;
    o->topic = dbx_strdup(topic);
    o->partitions = partitions;
    o->period_ms = period_ms;
    o->bounds = dbx_calloc((size_t)partitions, sizeof(*o->bounds));
    o->on_answer = on_answer;
    o->user = user;
    o->told_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    dbx_assert(o->told_fd >= 0);
    o->watch = dbx_watch_new(opts->loop, o->told_fd, DBX_READ, on_told, o);
    for (int i = 0; i < partitions; i++) {
        o->bounds[i].oldest = o->bounds[i].next = -1;
        o->bounds[i].heard_ms = dbx_now_ms();
    }
    pthread_mutex_init(&o->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&o->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    (void)ask_all(o, 0);
    dbx_assert(pthread_create(&o->thread, NULL, offsets_thread, o) == 0);
    return o;
}

struct dbx_kafka_offsets *dbx_kafka_offsets_free(struct dbx_kafka_offsets *o)
{
    if (!o)
        return NULL;
    pthread_mutex_lock(&o->lock);
    o->stop = true;
    pthread_cond_signal(&o->wake);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    rd_kafka_destroy(o->rk);
    dbx_watch_free(o->watch);
    dbx_close(o->told_fd);
    pthread_cond_destroy(&o->wake);
    pthread_mutex_destroy(&o->lock);
    free(o->bounds);
    free(o->topic);
    free(o);
    return NULL;
}

int dbx_kafka_offsets_get(const struct dbx_kafka_offsets *o, int partition, int64_t *ret_oldest,
                          int64_t *ret_next)
{
    dbx_assert(partition >= 0 && partition < o->partitions);
    int64_t next = atomic_load(&o->bounds[partition].next);
    if (next < 0)
        return -EAGAIN;
    *ret_oldest = atomic_load(&o->bounds[partition].oldest);
    *ret_next = next;
    return 0;
}

uint64_t dbx_kafka_offsets_heard_ms(const struct dbx_kafka_offsets *o, int partition)
{
    dbx_assert(partition >= 0 && partition < o->partitions);
    return atomic_load(&o->bounds[partition].heard_ms);
}

uint64_t dbx_kafka_offsets_refresh(struct dbx_kafka_offsets *o)
{
    pthread_mutex_lock(&o->lock);
    uint64_t ticket = ++o->ticket;
    pthread_cond_signal(&o->wake);
    pthread_mutex_unlock(&o->lock);
    return ticket;
}

bool dbx_kafka_offsets_heard(const struct dbx_kafka_offsets *o, int partition, uint64_t ticket)
{
    return atomic_load(&o->bounds[partition].answered) >= ticket;
}

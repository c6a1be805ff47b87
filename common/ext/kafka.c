/* SPDX-License-Identifier: Apache-2.0 */
/* What producer and consumer share: configuration, errors, topics, and the thread that asks for
 * offsets. */
#include "common/ext/kafka.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <syslog.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/ext/kafka_int.h"

#define QUERY_MS 5000

int dbx_kafka__err(struct dbx_err *err, rd_kafka_resp_err_t code, const char *what)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return dbx_err_set(err, -ETIMEDOUT, DBX_TIMEOUT, "%s: %s", what, rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
        return dbx_err_set(err, -ENOTCONN, DBX_UNAVAIL, "%s: %s", what, rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return dbx_err_set(err, -EMSGSIZE, DBX_LIMIT, "%s: %s", what, rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
        return dbx_err_set(err, -EACCES, DBX_DENIED, "%s: %s", what, rd_kafka_err2str(code));
    default:
        return dbx_err_set(err, -EIO, DBX_INTERNAL, "%s: %s", what, rd_kafka_err2str(code));
    }
}

int dbx_kafka__set(rd_kafka_conf_t *conf, const char *name, const char *value, struct dbx_err *err)
{
    char text[160];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof(text)) == RD_KAFKA_CONF_OK)
        return 0;
    return dbx_err_field(err, name, "Kafka: %s", text);
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]))
        s[--n] = '\0';
    return s;
}

static int read_properties(rd_kafka_conf_t *conf, const char *path, struct dbx_err *err)
{
    struct dbx_buf text;
    int r = dbx_fs_read(path, 1 << 16, &text, err);
    if (r < 0)
        return r;
    char *save = NULL;
    for (char *line = text.data ? strtok_r((char *)text.data, "\n", &save) : NULL; line && r == 0;
         line = strtok_r(NULL, "\n", &save)) {
        char *name = trim(line), *eq = strchr(name, '=');
        if (*name == '#' || *name == '\0')
            continue;
        if (!eq) {
            r = dbx_err_field(err, "kafka_properties", "'%s' is not name = value", name);
            break;
        }
        *eq = '\0';
        r = dbx_kafka__set(conf, trim(name), trim(eq + 1), err);
    }
    dbx_buf_done(&text);
    return r;
}

/* librdkafka's log lines are for its developers; what matters comes as errors. */
static void no_log(const rd_kafka_t *rk, int level, const char *fac, const char *buf)
{
    (void)rk, (void)level, (void)fac, (void)buf;
}

int dbx_kafka__conf(const struct dbx_kafka_opts *opts, rd_kafka_conf_t **ret, struct dbx_err *err)
{
    static const char *const common[][2] = {
        {"client.id", "devbox"},
        {"socket.nagle.disable", "true"},
        {"socket.keepalive.enable", "true"},
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
        {"allow.auto.create.topics", "false"},
        {"topic.metadata.refresh.sparse", "true"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int r = dbx_kafka__set(conf, "bootstrap.servers", opts->brokers, err);
    for (size_t i = 0; i < DBX_ARRAY_LEN(common) && r == 0; i++)
        r = dbx_kafka__set(conf, common[i][0], common[i][1], err);
    if (r == 0 && opts->properties && opts->properties[0])
        r = read_properties(conf, opts->properties, err);
    if (r < 0) {
        rd_kafka_conf_destroy(conf);
        return r;
    }
    rd_kafka_conf_set_log_cb(conf, no_log);
    *ret = conf;
    return 0;
}

int dbx_kafka__new(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **ret,
                   struct dbx_err *err)
{
    char text[200];
    *ret = rd_kafka_new(type, conf, text, sizeof(text));
    if (*ret)
        return 0;
    rd_kafka_conf_destroy(conf);
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "Kafka client: %s", text);
}

int dbx_kafka__wake_fd(rd_kafka_queue_t *queue, struct dbx_err *err)
{
    static const uint64_t one = 1;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return dbx_err_sys(err, "eventfd");
    rd_kafka_queue_io_event_enable(queue, fd, &one, sizeof(one));
    return fd;
}

void dbx_kafka__drain_fd(int fd)
{
    uint64_t n;
    (void)!read(fd, &n, sizeof(n));
}

/* --- topics --- */

static int count_partitions(rd_kafka_t *rk, const char *topic, uint32_t wait_ms, int *ret,
                            struct dbx_err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, t, &md, (int)wait_ms);
    rd_kafka_topic_destroy(t);
    if (code)
        return dbx_kafka__err(err, code, "ask Kafka for its topics");
    *ret = md->topic_cnt == 1 && md->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR
               ? md->topics[0].partition_cnt
               : 0;
    rd_kafka_metadata_destroy(md);
    return 0;
}

static rd_kafka_resp_err_t creation_result(rd_kafka_event_t *ev, char *text, size_t size)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(ev);
    const rd_kafka_CreateTopics_result_t *res = rd_kafka_event_CreateTopics_result(ev);
    size_t n = 0;
    const rd_kafka_topic_result_t **topics =
        res ? rd_kafka_CreateTopics_result_topics(res, &n) : NULL;
    snprintf(text, size, "%s", code ? rd_kafka_event_error_string(ev) : "");
    if (!code && n == 1) {
        code = rd_kafka_topic_result_error(topics[0]);
        const char *why = rd_kafka_topic_result_error_string(topics[0]);
        snprintf(text, size, "%s", why ? why : rd_kafka_err2str(code));
    }
    return code;
}

static int create_topic(rd_kafka_t *rk, const char *topic, int partitions, int replication,
                        uint64_t retention_ms, uint32_t wait_ms, struct dbx_err *err)
{
    char text[200], number[32];
    rd_kafka_NewTopic_t *nt = rd_kafka_NewTopic_new(
        topic, partitions, replication ? replication : -1, text, sizeof(text));
    if (!nt)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "Kafka topic '%s': %s", topic, text);
    if (retention_ms) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)retention_ms);
        rd_kafka_NewTopic_set_config(nt, "retention.ms", number);
    }
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(o, (int)wait_ms, text, sizeof(text));
    rd_kafka_CreateTopics(rk, &nt, 1, o, q);
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, (int)wait_ms + 1000);
    rd_kafka_resp_err_t code =
        ev ? creation_result(ev, text, sizeof(text)) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    rd_kafka_event_destroy(ev);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(nt);
    if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
        dbx_kafka__err(err, code, "create the Kafka topic");
        return dbx_err_set(err, err ? err->code : -EIO, err ? err->kind : DBX_INTERNAL,
                           "create the Kafka topic '%s': %s", topic, text);
    }
    return 0;
}

int dbx_kafka_ensure_topic(const struct dbx_kafka_opts *opts, const char *topic, int partitions,
                           int replication, uint64_t retention_ms, uint32_t wait_ms,
                           struct dbx_err *err)
{
    rd_kafka_conf_t *conf = NULL;
    rd_kafka_t *rk = NULL;
    int have = 0, r = dbx_kafka__conf(opts, &conf, err);
    if (r < 0 || (r = dbx_kafka__new(RD_KAFKA_PRODUCER, conf, &rk, err)) < 0)
        return r;
    uint64_t deadline = dbx_now_ms() + wait_ms;
    do {
        r = count_partitions(rk, topic, 2000, &have, err);
        if (r == 0 && have == 0 &&
            (r = create_topic(rk, topic, partitions, replication, retention_ms, QUERY_MS, err)) ==
                0)
            (void)rd_kafka_poll(rk, 50); /* until its leaders are known */
    } while ((r < 0 || have == 0) && dbx_now_ms() < deadline);
    rd_kafka_destroy(rk);
    if (r == 0 && have != partitions)
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "the Kafka topic '%s' has %d partitions, %d are needed", topic, have,
                           partitions);
    return r;
}

/* --- offsets --- */

struct dbx_kafka_offsets {
    rd_kafka_t *rk;
    char *topic;
    int partitions;
    uint32_t period_ms;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop, now; /* under lock */
    _Atomic int64_t *oldest, *next;
    _Atomic bool known;
};

/* offsets_for_times with the protocol's special times: -1 asks for the end, -2 for the beginning.
 */
static bool ask(struct dbx_kafka_offsets *o, int64_t when, _Atomic int64_t *out)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(o->partitions);
    for (int i = 0; i < o->partitions; i++)
        rd_kafka_topic_partition_list_add(l, o->topic, i)->offset = when;
    bool ok = rd_kafka_offsets_for_times(o->rk, l, QUERY_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; ok && i < l->cnt; i++)
        ok = l->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR && l->elems[i].offset >= 0;
    for (int i = 0; ok && i < l->cnt; i++)
        atomic_store(&out[l->elems[i].partition], l->elems[i].offset);
    rd_kafka_topic_partition_list_destroy(l);
    return ok;
}

static void *offsets_thread(void *arg)
{
    struct dbx_kafka_offsets *o = arg;
    pthread_mutex_lock(&o->lock);
    while (!o->stop) {
        o->now = false;
        pthread_mutex_unlock(&o->lock);
        bool ok = ask(o, -2, o->oldest) && ask(o, -1, o->next);
        if (ok)
            atomic_store(&o->known, true);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        uint32_t ms = ok ? o->period_ms : 200;
        until.tv_sec += ms / 1000;
        until.tv_nsec += (long)(ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_mutex_lock(&o->lock);
        while (!o->stop && !o->now && pthread_cond_timedwait(&o->wake, &o->lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

struct dbx_kafka_offsets *dbx_kafka_offsets_new(const struct dbx_kafka_opts *opts,
                                                const char *topic, int partitions,
                                                uint32_t period_ms, struct dbx_err *err)
{
    rd_kafka_conf_t *conf = NULL;
    rd_kafka_t *rk = NULL;
    if (dbx_kafka__conf(opts, &conf, err) < 0 ||
        dbx_kafka__new(RD_KAFKA_PRODUCER, conf, &rk, err) < 0)
        return NULL;
    struct dbx_kafka_offsets *o = DBX_NEW(struct dbx_kafka_offsets);
    o->rk = rk;
    o->topic = dbx_strdup(topic);
    o->partitions = partitions;
    o->period_ms = period_ms;
    o->oldest = dbx_calloc((size_t)partitions, sizeof(*o->oldest));
    o->next = dbx_calloc((size_t)partitions, sizeof(*o->next));
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->wake, NULL);
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
    pthread_cond_destroy(&o->wake);
    pthread_mutex_destroy(&o->lock);
    free(o->oldest);
    free(o->next);
    free(o->topic);
    free(o);
    return NULL;
}

int dbx_kafka_offsets_get(const struct dbx_kafka_offsets *o, int partition, int64_t *ret_oldest,
                          int64_t *ret_next)
{
    dbx_assert(partition >= 0 && partition < o->partitions);
    if (!atomic_load(&o->known))
        return -EAGAIN;
    *ret_oldest = atomic_load(&o->oldest[partition]);
    *ret_next = atomic_load(&o->next[partition]);
    return 0;
}

void dbx_kafka_offsets_refresh(struct dbx_kafka_offsets *o)
{
    pthread_mutex_lock(&o->lock);
    o->now = true;
    pthread_cond_signal(&o->wake);
    pthread_mutex_unlock(&o->lock);
}

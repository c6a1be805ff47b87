/* SPDX-License-Identifier: Apache-2.0 */
/* What producer and consumer share: configuration, errors, topics. */
#include "common/ext/kafka.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/ext/kafka_int.h"

#define METADATA_MS 1000
#define CREATE_MS 5000
#define AGAIN_MS 100

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
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
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

/* What the library last complained about: who refused, and why. */
struct complaint {
    rd_kafka_resp_err_t code;
    char text[160];
};

static void on_complaint(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct complaint *c = opaque;
    (void)rk;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) /* says less than what came before it */
        return;
    c->code = code;
    snprintf(c->text, sizeof(c->text), "%s", reason);
}

/* *ret 0: there is no such topic. */
static int count_partitions(rd_kafka_t *rk, const char *topic, int *ret, struct dbx_err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
    if (!t)
        return dbx_kafka__err(err, rd_kafka_last_error(), "Kafka topic");
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, t, &md, METADATA_MS);
    rd_kafka_topic_destroy(t);
    *ret = 0;
    if (!code && md->topic_cnt == 1) {
        code = md->topics[0].err;
        *ret = md->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(md);
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        *ret = 0;
    else if (code)
        return dbx_kafka__err(err, code, "ask Kafka for its topics");
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

static int create_topic(rd_kafka_t *rk, const struct dbx_kafka_topic *topic, struct dbx_err *err)
{
    char text[200], number[32];
    rd_kafka_NewTopic_t *nt =
        rd_kafka_NewTopic_new(topic->name, topic->partitions,
                              topic->replication ? topic->replication : -1, text, sizeof(text));
    if (!nt)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "Kafka topic '%s': %s", topic->name, text);
    if (topic->retention_ms) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)topic->retention_ms);
        rd_kafka_NewTopic_set_config(nt, "retention.ms", number);
    }
    rd_kafka_NewTopic_set_config(nt, "max.message.bytes", DBX_KAFKA__MAX_MESSAGE);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(o, CREATE_MS, text, sizeof(text));
    rd_kafka_CreateTopics(rk, &nt, 1, o, q);
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, CREATE_MS + 1000);
    snprintf(text, sizeof(text), "no answer");
    rd_kafka_resp_err_t code =
        ev ? creation_result(ev, text, sizeof(text)) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    rd_kafka_event_destroy(ev);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(nt);
    if (!code || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return 0;
    struct dbx_err e = {0};
    dbx_kafka__err(&e, code, "create");
    return dbx_err_set(err, e.code, e.kind, "create the Kafka topic '%s': %s", topic->name, text);
}

int dbx_kafka_ensure_topic(const struct dbx_kafka_opts *opts, const struct dbx_kafka_topic *topic,
                           uint32_t wait_ms, struct dbx_err *err)
{
    rd_kafka_conf_t *conf = NULL;
    rd_kafka_t *rk = NULL;
    struct complaint c = {0};
    struct dbx_err e = {0};
    int have = 0, r = dbx_kafka__conf(opts, &conf, err);
    if (r < 0)
        return r;
    rd_kafka_conf_set_opaque(conf, &c);
    rd_kafka_conf_set_error_cb(conf, on_complaint);
    if ((r = dbx_kafka__new(RD_KAFKA_PRODUCER, conf, &rk, err)) < 0)
        return r;
    for (uint64_t deadline = dbx_now_ms() + wait_ms;;) {
        r = count_partitions(rk, topic->name, &have, &e);
        if (r == 0 && have == 0)
            r = create_topic(rk, topic, &e);
        if (r == 0 && have > 0)
            break;
        (void)rd_kafka_poll(rk,
                            AGAIN_MS); /* complaints; and until a new topic's leaders are known */
        if (dbx_kafka__err(NULL, c.code, "") == -EACCES || r == -EACCES || dbx_now_ms() >= deadline)
            break;
    }
    rd_kafka_destroy(rk);
    if (r == 0 && have != topic->partitions)
        return dbx_err_set(err, have ? -EINVAL : -ETIMEDOUT, have ? DBX_INVALID : DBX_TIMEOUT,
                           "the Kafka topic '%s' has %d partitions, %d are needed", topic->name,
                           have, topic->partitions);
    if (r < 0 && c.code) { /* the cause, where the library named one */
        struct dbx_err cause = {0};
        dbx_kafka__err(&cause, c.code, "");
        return dbx_err_set(err, cause.code, cause.kind, "Kafka at %s: %s", opts->brokers, c.text);
    }
    return r < 0 ? dbx_err_set(err, r, e.kind, "%s", e.msg) : 0;
}

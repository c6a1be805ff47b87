/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by kafka*.c only. */
#pragma once

#include <librdkafka/rdkafka.h>

#include "common/ext/kafka.h"

/* Of one message with its key, and of a request: above DBX_LOG_MAX_VALUE with room to spare. */
#define DBX_KAFKA__MAX_MESSAGE "4194304"

int dbx_kafka__set(rd_kafka_conf_t *conf, const char *name, const char *value, struct dbx_err *err);
/* What all clients have in common, and the operator's properties. Owned by the caller until
 * rd_kafka_new took it. */
int dbx_kafka__conf(const struct dbx_kafka_opts *opts, rd_kafka_conf_t **ret, struct dbx_err *err);
int dbx_kafka__new(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **ret,
                   struct dbx_err *err);
int dbx_kafka__err(struct dbx_err *err, rd_kafka_resp_err_t code, const char *what);
/* Routes a queue's wake-ups to an eventfd; returns the fd. */
int dbx_kafka__wake_fd(rd_kafka_queue_t *queue, struct dbx_err *err);
void dbx_kafka__drain_fd(int fd);
/* For tests: the client that serves now. */
rd_kafka_t *dbx_kafka__producer_client(struct dbx_kafka_producer *p);

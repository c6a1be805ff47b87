/* SPDX-License-Identifier: Apache-2.0 */
/* Deletes the records of a partition below an offset, as retention would, but now:
 * kafka_trim BROKERS TOPIC PARTITION OFFSET|end. For tests/system/test_output_log.py and
 * test_archive.py. */
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/kafka_int.h"

#define WAIT_MS 20000

static bool trim(rd_kafka_t *rk, const char *topic, int32_t partition, int64_t offset)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(l, topic, partition)->offset = offset;
    rd_kafka_DeleteRecords_t *what = rd_kafka_DeleteRecords_new(l);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_DeleteRecords(rk, &what, 1, NULL, q);
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, WAIT_MS);
    const rd_kafka_DeleteRecords_result_t *res =
        ev ? rd_kafka_event_DeleteRecords_result(ev) : NULL;
    const rd_kafka_topic_partition_list_t *got =
        res ? rd_kafka_DeleteRecords_result_offsets(res) : NULL;
    bool ok = got && got->cnt == 1 && !got->elems[0].err;
    if (ok)
        printf("oldest %lld\n", (long long)got->elems[0].offset);
    else
        fprintf(stderr, "kafka_trim: %s\n", ev ? rd_kafka_event_error_string(ev) : "no answer");
    rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
    rd_kafka_DeleteRecords_destroy(what);
    rd_kafka_topic_partition_list_destroy(l);
    return ok;
}

int main(int argc, char **argv)
{
    struct dbx_err err = {0};
    uint64_t partition, offset = 0;
    bool all = argc == 5 && dbx_streq(argv[4], "end");
    if (argc != 5 || dbx_parse_u64(argv[3], strlen(argv[3]), 0, INT32_MAX, &partition) < 0 ||
        (!all && dbx_parse_u64(argv[4], strlen(argv[4]), 0, INT64_MAX, &offset) < 0)) {
        fprintf(stderr, "usage: kafka_trim BROKERS TOPIC PARTITION OFFSET|end\n");
        return 2;
    }
    struct dbx_kafka_opts opts = {.brokers = argv[1]};
    rd_kafka_conf_t *conf = NULL;
    rd_kafka_t *rk = NULL;
    if (dbx_kafka__conf(&opts, &conf, &err) < 0 ||
        dbx_kafka__new(RD_KAFKA_PRODUCER, conf, &rk, &err) < 0) {
        fprintf(stderr, "kafka_trim: %s\n", err.msg);
        return 1;
    }
    bool ok = trim(rk, argv[2], (int32_t)partition, all ? RD_KAFKA_OFFSET_END : (int64_t)offset);
    rd_kafka_destroy(rk);
    return ok ? 0 : 1;
}

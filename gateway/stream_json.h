/* SPDX-License-Identifier: Apache-2.0 */
/* Output records to messages of the JSON stream (docs/protocols.md), for one viewer and one
 * process. Text never splits a character: what may be the beginning of one waits for the next
 * record of its stream. Pure: messages go to a callback. */
#pragma once

#include "gateway/stream_id.h"

struct dbx_jw;

#define GW_MESSAGE_BYTES (64u << 10) /* of output in one message */

struct gw_text {
    struct gw_progress progress;
    struct {
        uint8_t bytes[4];
        uint8_t len;
        int64_t log_offset; /* of the record it came in */
    } carry[GW_STREAMS];
    char process[DBX_ID_TEXT];
    int64_t last_offset, last_ts_us; /* of the newest record that was looked at */
};

/* text: one JSON message, valid during the call; bytes: of output in it. */
typedef void gw_text_emit(const char *text, size_t len, size_t bytes, void *user);

/* Whether the same record becomes the same messages for both. */
bool gw_text_same(const struct gw_text *a, const struct gw_text *b);
void gw_text_init(struct gw_text *t, const struct dbx_id *process);
/* Goes on behind an id; what waited in carry is forgotten. */
void gw_text_resume(struct gw_text *t, const struct gw_stream_id *id);
/* Everything new in a record that stands at log_offset, at most max (> 0) bytes of its output.
 * Returns whether it took all: else give it the record again. */
bool gw_text_record(struct gw_text *t, const struct dbx_record *r, int64_t log_offset, size_t max,
                    gw_text_emit *emit, void *user);
/* Gives what waited for the rest of a character: nothing more will come. */
void gw_text_flush(struct gw_text *t, gw_text_emit *emit, void *user);
/* A gap from where the stream stands up to `to`, when that is ahead. */
void gw_text_gap(struct gw_text *t, enum gw_stream stream, uint64_t to, gw_text_emit *emit,
                 void *user);

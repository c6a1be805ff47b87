/* SPDX-License-Identifier: Apache-2.0 */
/* How far one viewer has come with one process: byte positions, not record numbers, so that records
 * that come twice, are split elsewhere, or are read again after a resume change nothing. Pure. */
#pragma once

#include "common/proto/limits.h"
#include "common/proto/record.h"

enum gw_stream { GW_STDOUT, GW_STDERR, GW_PTY, GW_STREAMS };
enum gw_phase { GW_PHASE_NONE, GW_PHASE_COMPILE, GW_PHASE_RUN };

const char *gw_stream_name(enum gw_stream stream);
int gw_stream_parse(const char *name, enum gw_stream *ret) DBX_MUST_USE; /* -EINVAL */

struct gw_progress {
    enum gw_phase phase;
    uint64_t pos[GW_STREAMS]; /* of the phase it is in: the next byte wanted */
    bool end;                 /* the END record was the last of it, */
    enum dbx_verdict verdict; /* and this was its verdict */
};

enum gw_event_kind {
    GW_EV_NONE,  /* nothing (more) in this record */
    GW_EV_PHASE, /* `phase` begins */
    GW_EV_DATA,  /* bytes that were not there before */
    GW_EV_GAP,   /* [from, to) of a stream is gone */
    GW_EV_END,
};
struct gw_event {
    enum gw_event_kind kind;
    enum gw_phase phase;
    enum gw_stream stream;
    uint64_t offset; /* DATA: of its first byte */
    const uint8_t *data;
    size_t len;
    uint64_t from, to; /* GAP */
};

/* Takes the next event out of a record; call it until NONE. A DATA event holds at most max bytes
 * (> 0); what is left of the record comes with the next call, also when the record is read anew in
 * between. */
void gw_progress_next(struct gw_progress *p, const struct dbx_record *r, size_t max,
                      struct gw_event *ret);

/* SPDX-License-Identifier: Apache-2.0 */
/* The output record: 48 bytes little-endian, then `length` raw bytes. The same bytes are the log's
 * value and the binary WebSocket frame.
 *
 *   0 magic u8 0xDB | 1 version u8 1 | 2 type u8 | 3 flags u8 | 4 length u32 | 8 seq u64 | 16 ts_us
 * i64 24 process id 16 B | 40 byte offset u64
 *
 * seq counts the records of a process from 0 without a gap. offset: position of the first byte in
 * its stream; compile and run phase count separately (DBX_REC_COMPILE). A reader skips types it
 * does not know, drops seqs it has seen. */
#pragma once

#include "common/base/buf.h"
#include "common/proto/id.h"

#define DBX_REC_HEADER 48
#define DBX_REC_MAX_DATA (1u << 20) /* what a decoder accepts; the shim writes at most 64 KiB */

enum dbx_rec_type {
    DBX_REC_STDOUT = 1,
    DBX_REC_STDERR = 2,
    DBX_REC_PTY = 3,
    DBX_REC_STATUS = 4, /* data: JSON {"status":"running","phase":"compile"|"run"} */
    DBX_REC_END =
        5,           /* data: JSON
                        {"compile":outcome|null,"run":outcome|null,"status","verdict","sha256":{"stdout","stderr"}}
                      */
    DBX_REC_GAP = 6, /* data: u64 from, u64 to, u8 stream type */
};
enum { DBX_REC_COMPILE = 1 }; /* flag: of the compile phase */

struct dbx_record {
    enum dbx_rec_type type;
    uint8_t flags;
    uint64_t seq;
    int64_t ts_us;
    struct dbx_id process;
    uint64_t offset;
    const uint8_t *data; /* borrowed */
    uint32_t len;
};

void dbx_record_header(const struct dbx_record *r, uint8_t out[static DBX_REC_HEADER]);
/* One whole record that fills [data, data + len) exactly; -EBADMSG otherwise. An unknown type is
 * returned as it is. */
int dbx_record_decode(const void *data, size_t len, struct dbx_record *ret) DBX_MUST_USE;

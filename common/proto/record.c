/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/record.h"

#include <errno.h>
#include <string.h>

#define MAGIC 0xDB
#define VERSION 1

static void put_le(uint8_t *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

void dbx_record_header(const struct dbx_record *r, uint8_t out[static DBX_REC_HEADER])
{
    out[0] = MAGIC;
    out[1] = VERSION;
    out[2] = (uint8_t)r->type;
    out[3] = r->flags;
    put_le(out + 4, r->len, 4);
    put_le(out + 8, r->seq, 8);
    put_le(out + 16, (uint64_t)r->ts_us, 8);
    memcpy(out + 24, r->process.b, sizeof(r->process.b));
    put_le(out + 40, r->offset, 8);
}

int dbx_record_decode(const void *data, size_t len, struct dbx_record *ret)
{
    struct dbx_reader rd = {.p = data, .left = len};
    struct dbx_record r = {0};

    if (len < DBX_REC_HEADER || dbx_rd_u8(&rd) != MAGIC || dbx_rd_u8(&rd) != VERSION)
        return -EBADMSG;
    r.type = dbx_rd_u8(&rd);
    r.flags = dbx_rd_u8(&rd);
    r.len = dbx_rd_u32(&rd);
    r.seq = dbx_rd_u64(&rd);
    r.ts_us = (int64_t)dbx_rd_u64(&rd);
    memcpy(r.process.b, dbx_rd_bytes(&rd, sizeof(r.process.b)), sizeof(r.process.b));
    r.offset = dbx_rd_u64(&rd);
    if (r.len > DBX_REC_MAX_DATA || r.len != rd.left)
        return -EBADMSG;
    r.data = dbx_rd_bytes(&rd, r.len);
    *ret = r;
    return 0;
}

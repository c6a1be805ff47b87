/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer with a named maximum (curl's dynbuf). Growth beyond max fails with -E2BIG,
 * and the buffer stays as it was. Always NUL-terminated behind len once anything was appended. */
#pragma once

#include "common/base/def.h"
#include <sys/types.h>

#define DBX_MAX_HEADER (16u << 10)
#define DBX_MAX_BODY (8u << 20)      /* a REST body unless the route says otherwise */
#define DBX_MAX_LINK_MSG (80u << 20) /* one message between daemons */

struct dbx_buf {
    uint8_t *data; /* owned; NULL until something is appended */
    size_t len, cap, max;
};

void dbx_buf_init(struct dbx_buf *buf, size_t max);
void dbx_buf_done(struct dbx_buf *buf);  /* frees; may be used again */
void dbx_buf_clear(struct dbx_buf *buf); /* keeps the memory */
int dbx_buf_reserve(struct dbx_buf *buf, size_t more) DBX_MUST_USE;
int dbx_buf_append(struct dbx_buf *buf, const void *data, size_t len);
int dbx_buf_str(struct dbx_buf *buf, const char *s);
int dbx_buf_printf(struct dbx_buf *buf, const char *fmt, ...) DBX_PRINTF(2, 3);
void dbx_buf_consume(struct dbx_buf *buf, size_t n); /* drops the first n bytes */
uint8_t *dbx_buf_take(struct dbx_buf *buf);          /* caller frees; buf is empty again */
static inline const char *dbx_buf_cstr(const struct dbx_buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}

/* Little-endian appends of the wire formats. */
int dbx_buf_u8(struct dbx_buf *buf, uint8_t v);
int dbx_buf_u16(struct dbx_buf *buf, uint16_t v);
int dbx_buf_u32(struct dbx_buf *buf, uint32_t v);
int dbx_buf_u64(struct dbx_buf *buf, uint64_t v);

/* A bounded reader over foreign bytes: after a short read `bad` is set and every later read gives 0
 * / NULL. */
struct dbx_reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};
uint8_t dbx_rd_u8(struct dbx_reader *r);
uint16_t dbx_rd_u16(struct dbx_reader *r);
uint32_t dbx_rd_u32(struct dbx_reader *r);
uint64_t dbx_rd_u64(struct dbx_reader *r);
const uint8_t *dbx_rd_bytes(struct dbx_reader *r, size_t n); /* points into the input */

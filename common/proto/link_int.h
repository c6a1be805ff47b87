/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a link's messages, apart from the connection. */
#pragma once

#include "common/proto/link.h"

struct dbx_link__decoded {
    struct dbx_json_doc *doc; /* owned */
    struct dbx_link_msg msg;  /* points into doc and the input */
    int64_t re;               /* 0 unless an answer */
};

/* Checks the frame: one JSON object, "op" with an optional positive "rid", or a positive "re". */
int dbx_link__decode(const uint8_t *data, size_t len, struct dbx_link__decoded *ret,
                     struct dbx_err *err) DBX_MUST_USE;
void dbx_link__decoded_done(struct dbx_link__decoded *d);
/* The error in an answer, or *ret with code 0 when it is none. */
void dbx_link__answer_error(const struct dbx_json *header, struct dbx_err *ret);

/* Appends length and header: {"op":op,"rid":rid (unless 0), fill}, or {"re":re,"ok":true, fill}, or
 * {"re":re,"error":..}. */
struct dbx_link__head {
    const char *op;
    int64_t rid, re;
    const struct dbx_err *error;
    dbx_link_fill *fill;
    void *arg;
};
int dbx_link__encode(struct dbx_buf *out, const struct dbx_link__head *head) DBX_MUST_USE;

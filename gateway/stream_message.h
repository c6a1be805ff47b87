/* SPDX-License-Identifier: Apache-2.0 */
/* What a viewer says on its stream (docs/protocols.md), decoded strictly. Pure. */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"

struct dbx_json_doc;

enum gw_message_type {
    GW_MSG_RESUME,
    GW_MSG_INPUT,
    GW_MSG_EOF,
    GW_MSG_CANCEL,
    GW_MSG_RESIZE,
    GW_MSG_ACK,
};

#define GW_MAX_INPUT (1u << 20) /* bytes in one message */

struct gw_message {
    struct dbx_json_doc *doc; /* owned: the strings point into it */
    enum gw_message_type type;
    struct dbx_id process;
    const char *last_seen_id;
    uint8_t *bytes; /* owned, or NULL: input that came as base64 */
    const void *data;
    size_t len;
    int64_t cols, rows, acked;
    int64_t seq; /* of input: `input_taken` with it is wanted; -1: it is not */
};

/* -EBADMSG: no JSON object; -ENOSYS: a type nobody knows; -EINVAL: err->field says what is wrong.
 */
int gw_message_decode(const void *text, size_t len, struct gw_message *ret,
                      struct dbx_err *err) DBX_MUST_USE;
void gw_message_done(struct gw_message *m);

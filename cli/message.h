/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway says on a stream (docs/protocols.md), decoded. The gateway may be anyone's: what
 * is not as it should be is an error, what is unknown is CLI_MSG_OTHER. Pure. */
#pragma once

#include "common/base/err.h"

struct dbx_json_doc;

enum cli_msg_type {
    CLI_MSG_OTHER,
    CLI_MSG_OUTPUT,
    CLI_MSG_STATUS,
    CLI_MSG_GAP,
    CLI_MSG_ERROR,
    CLI_MSG_LOG,
    CLI_MSG_INPUT_TAKEN,
};

struct cli_msg {
    struct dbx_json_doc *doc; /* owned: the strings point into it */
    enum cli_msg_type type;
    const char *id; /* where to resume behind this message, or NULL */
    bool compile;   /* of the compile phase */
    bool is_stderr; /* OUTPUT and GAP */
    const void *data;
    size_t len;
    uint8_t *bytes;   /* owned, or NULL: data that came as base64 */
    int64_t from, to; /* GAP */
    int64_t seq;      /* INPUT_TAKEN; -1: none */
    /* STATUS */
    bool ended, running;
    const char *verdict, *signal;
    int64_t exit_code; /* -1: none */
    /* ERROR */
    const char *code, *message; /* never NULL; LOG: message alone, NULL when the log is back */
};

/* process_id: messages about another one are CLI_MSG_OTHER. -EBADMSG with words. */
int cli_msg_parse(const void *text, size_t len, const char *process_id, struct cli_msg *ret,
                  struct dbx_err *err) DBX_MUST_USE;
void cli_msg_done(struct cli_msg *m);

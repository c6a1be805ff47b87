/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of one execution, across lost connections: each byte of output comes once. */
#pragma once

#include "cli/message.h"

struct dbx_loop;
struct cli_api;
struct cli_follow;

#define CLI_RESUME_MS 30000u /* a lost connection is made anew for so long */

struct cli_follow_opts {
    struct dbx_loop *loop;
    struct cli_api *api;
    const char *execution, *process, *sandbox, *token; /* as the gateway gave them */
};
struct cli_follow_handlers {
    void (*on_open)(bool again, void *user);
    void (*on_message)(const struct cli_msg *m, void *user);
    void (*on_lost)(const struct dbx_err *err, void *user); /* for good; the last call */
};

struct cli_follow *cli_follow_new(const struct cli_follow_opts *opts,
                                  const struct cli_follow_handlers *h, void *user);
void cli_follow_close(struct cli_follow *f); /* before the loop is freed: no call from now on */
struct cli_follow *cli_follow_free(struct cli_follow *f); /* after the loop was */

bool cli_follow_is_open(const struct cli_follow *f);
/* Bytes for the program's stdin; INPUT_TAKEN with the same seq answers. -ENOTCONN. */
int cli_follow_input(struct cli_follow *f, const void *data, size_t len, uint64_t seq);
int cli_follow_eof(struct cli_follow *f);
/* So many bytes of what came on this connection are done with. The first call makes the gateway
 * hold back what would be too much. */
void cli_follow_ack(struct cli_follow *f, uint64_t bytes);
uint64_t cli_follow_received(const struct cli_follow *f); /* on this connection */

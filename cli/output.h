/* SPDX-License-Identifier: Apache-2.0 */
/* One of our own outputs: a queue in front of a descriptor that may be slow. */
#pragma once

#include "common/base/def.h"

struct dbx_loop;
struct cli_output;

#define CLI_OUTPUT_MAX (64u << 20) /* waiting bytes; flow control keeps far below */

struct cli_output_handlers {
    void (*on_written)(void *user);           /* some was; the queue may be empty now */
    void (*on_failed)(int error, void *user); /* -EPIPE: nobody reads. Once; then all is dropped */
};

/* fd stays the caller's. A terminal, pipe or socket is never waited for in a write; other files are
 * written at once. Handlers are never called before a call here has returned. */
struct cli_output *cli_output_new(struct dbx_loop *loop, int fd,
                                  const struct cli_output_handlers *h, void *user);
struct cli_output *cli_output_free(struct cli_output *out); /* drops what waits */
void cli_output_write(struct cli_output *out, const void *data, size_t len);
size_t cli_output_waiting(const struct cli_output *out);

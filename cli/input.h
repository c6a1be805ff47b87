/* SPDX-License-Identifier: Apache-2.0 */
/* Our own standard input, read piece by piece: only as fast as the pieces are taken. */
#pragma once

#include "common/base/def.h"

struct dbx_loop;
struct cli_input;

#define CLI_INPUT_PIECE (64u << 10)

struct cli_input_handlers {
    /* A piece, valid during the call. The next one comes after cli_input_next. */
    void (*on_piece)(const uint8_t *data, size_t len, void *user);
    void (*on_end)(void *user); /* once: its end, or it cannot be read */
};

/* fd stays the caller's. Nothing is read before the first cli_input_next. Handlers are never called
 * before a call here has returned. */
struct cli_input *cli_input_new(struct dbx_loop *loop, int fd, const struct cli_input_handlers *h,
                                void *user);
void cli_input_next(struct cli_input *in);
struct cli_input *cli_input_free(struct cli_input *in);

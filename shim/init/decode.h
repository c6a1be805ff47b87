/* SPDX-License-Identifier: Apache-2.0 */
/* Init's decoder of requests: pure functions over bytes, bounded, pointing into their input. All
 * return 0 or a positive errno (EBADMSG for what is malformed, E2BIG for what is too much). */
#pragma once

#include "shim/init/protocol.h"

#include <stddef.h>

/* The header of one datagram; *ret_body is what follows. */
int init_decode_header(const void *msg, size_t len, struct init_header *ret,
                       const uint8_t **ret_body, size_t *ret_len);
int init_decode_key(const uint8_t *body, size_t len, struct init_key *ret);
int init_decode_resize(const uint8_t *body, size_t len, struct init_resize *ret);
int init_decode_listen(const uint8_t *body, size_t len, struct init_listen *ret);
int init_decode_stream(const uint8_t *body, size_t len, struct init_stream *ret);
int init_decode_signal(const uint8_t *body, size_t len, struct init_signal *ret);

/* argv and env receive pointers into body, and a NULL at the end: room for INIT_MAX_ARGS + 1 each.
 */
struct init_start_request {
    struct init_start fixed;
    struct init_winsize size; /* of its terminal; 0: it has none */
    struct init_rlimit rlimits[INIT_MAX_RLIMITS];
    const char *cwd;
    char **argv, **env;
};
int init_decode_start(const uint8_t *body, size_t len, struct init_start_request *ret);
/* The same behind the size of its terminal. */
int init_decode_start_tty(const uint8_t *body, size_t len, struct init_start_request *ret);

/* What a FILES request is about; the block begins at *ret_block. root is not terminated. */
int init_decode_files(const uint8_t *body, size_t len, struct init_files *ret,
                      const char **ret_root, const uint8_t **ret_block, size_t *ret_block_len);

int init_decode_watch(const uint8_t *body, size_t len, struct init_watch *ret,
                      const char **ret_root, const char **ret_ignored);

/* Neither string is terminated; the name is one of [0-9a-z], or empty. */
int init_decode_layer(const uint8_t *body, size_t len, struct init_layer *ret,
                      const char **ret_target, const char **ret_name);

/* One entry of a block of common/proto/files.h. */
struct init_file {
    int folder, gone;
    uint32_t mode;
    char path[1025]; /* checked: relative, no empty component, no "." or ".." */
    const uint8_t *data;
    uint64_t size;
};
struct init_files_iter { /* begin with zero */
    size_t offset;
    uint32_t left;
};
/* Returns -1 at the end, else 0 and a file, or a positive errno. */
int init_files_next(const uint8_t *block, size_t len, struct init_files_iter *it,
                    struct init_file *ret);

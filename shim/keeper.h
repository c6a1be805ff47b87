/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper as a library: keeper_main.c wires it to the command line, tests run it in a child.
 * Design: keeper_protocol.h. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct keeper;

struct keeper_opts {
    struct dbx_loop *loop;
    const char *socket; /* path; an old one that nobody listens on is replaced */
    const char *pump;   /* "auto", "uring" or "epoll" */
    uint32_t max_processes, max_sandboxes;
};

int keeper_new(const struct keeper_opts *opts, struct keeper **ret,
               struct dbx_err *err) DBX_MUST_USE;
struct keeper *keeper_free(struct keeper *k); /* closes all it holds: the sandboxes end */
const char *keeper_pump_name(const struct keeper *k);
/* Why io_uring was passed over by "auto"; code 0 when it was not. */
const struct dbx_err *keeper_pump_reason(const struct keeper *k);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the loop offers to its neighbours in this folder only: guests, which live as long as the
 * loop. */
#pragma once

#include "common/base/list.h"
#include "common/io/loop.h"

/* A library that holds handles on the loop (libwebsockets). dbx_loop_free calls stop, runs the loop
 * until all handles are closed, and then calls done, which frees the guest. */
struct dbx_loop_guest {
    struct dbx_list node;
    const char *name;
    void (*stop)(struct dbx_loop_guest *guest);
    void (*done)(struct dbx_loop_guest *guest);
};

void dbx_loop__add_guest(struct dbx_loop *loop, struct dbx_loop_guest *guest);
struct dbx_loop_guest *dbx_loop__guest(const struct dbx_loop *loop, const char *name); /* or NULL */

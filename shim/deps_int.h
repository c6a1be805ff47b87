/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by deps.c (who waits for what) and deps_build.c (how a layer is made). */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/proto/id.h"
#include "shim/deps.h"

#include <sys/types.h>

struct dbx_map;
struct dbx_timer;
struct dbx_watch;
struct shim_claim;
struct shim_sandbox;
struct shim_transfer;

#define SHIM_DEP_MAGIC 0x50454453u

struct shim_deps {
    struct shim_deps_opts opts;
    struct dbx_map *by_key; /* -> struct shim_dep */
    struct dbx_list queue;  /* those that have not begun */
    size_t building;
    bool stopped;
};

/* A layer in the making, or one whose making failed lately. */
struct shim_dep {
    uint32_t magic;
    unsigned refs; /* of the table, and of whoever will call back */
    struct shim_deps *deps;
    struct dbx_log_ctx log;
    const struct bnd_template *tpl;
    struct bnd_deps what;
    struct dbx_id owner;         /* of who asked first */
    uint64_t bytes;              /* of the layer */
    struct dbx_list waits, node; /* node: in the queue */
    struct dbx_timer *deadline;
    struct dbx_buf text; /* what the installer said, the last of it */
    bool begun, over, installed;
    int exit_code; /* of the installer; -1 */
    struct dbx_err err;
    uint64_t began_ms;
    /* while it is made */
    struct shim_claim *claim;
    struct shim_sandbox *sb;
    struct dbx_id process;
    bool exited, text_ended;
    int out; /* owned: the installer's words; -1 */
    struct dbx_watch *watch;
    pid_t tool;
    int result; /* owned: what devbox-layer says; -1 */
    char *tree; /* owned: what it writes */
    int packed; /* owned: the layer as one file, for or from other nodes; -1 */
    struct shim_transfer *pull;
    char pulled[BND_LAYER_KEY + 1]; /* the digest that it must have; "" when it is made here */
    const char *name;               /* of the layer, the store's */
};

void shim_dep__begin(struct shim_dep *dp);
void shim_dep__abandon(struct shim_dep *dp); /* whatever is open is ended */
/* deps.c: it is over, one way or the other: err of dp, or its name. */
void shim_dep__done(struct shim_dep *dp);
void shim_dep__say(struct shim_dep *dp, const void *data, size_t len);
void shim_dep__unref(struct shim_dep *dp);

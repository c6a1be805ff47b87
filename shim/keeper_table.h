/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper holds: sandboxes and processes. No socket in here. */
#pragma once

#include "common/base/list.h"
#include "shim/keeper_int.h"
#include "shim/keeper_pump.h"

struct dbx_map;
struct dbx_metric;
struct keeper_table;

struct keeper_sandbox {
    uint8_t id[16];
    int control, state; /* owned; state may be -1 */
    bool removed;       /* and control closed, but some of its processes are still being read */
    struct dbx_list processes;
};

struct keeper_process {
    struct dbx_list node; /* in its sandbox */
    struct keeper_table *table;
    struct keeper_msg what;  /* as it was added */
    int memfd, pipes[2], in; /* owned; -1: closed or never there */
    struct keeper_shared *shared;
    struct keeper_feed feeds[2];
    bool fed[2]; /* the pump has it */
    bool removed;
};

struct keeper_table {
    const struct keeper_pump_ops *ops;
    struct keeper_pump *pump; /* owned */
    struct keeper_pump_handlers handlers;
    struct dbx_map *sandboxes;
    struct keeper_process *slots[KEEPER_SLOTS];
    uint32_t n_processes, max_processes, max_sandboxes;
    void (*on_progress)(uint32_t slot, void *user);
    void *user;
    struct dbx_metric *bytes, *processes, *boxes;
};

int keeper_table_init(struct keeper_table *t, struct dbx_loop *loop,
                      const struct keeper_pump_ops *ops, struct dbx_err *err);
void keeper_table_done(struct keeper_table *t);
/* Descriptors are taken on success only. */
int keeper_add_sandbox(struct keeper_table *t, const struct keeper_msg *m, const int *fds,
                       size_t n_fds);
int keeper_remove_sandbox(struct keeper_table *t, const uint8_t id[static 16]);
int keeper_add_process(struct keeper_table *t, const struct keeper_msg *m, const int *fds,
                       size_t n_fds, struct dbx_err *err);
int keeper_remove_process(struct keeper_table *t, const struct keeper_msg *m);
int keeper_close_stdin(struct keeper_table *t, const struct keeper_msg *m);
void keeper_resume_slot(struct keeper_table *t,
                        uint32_t slot); /* a stalled ring of it may have room */
void keeper_flush(struct keeper_table *t);

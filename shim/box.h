/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes of workspaces. One stays while it is used: processes join it and leave it, and when it
 * has had none for its idle time it ends. An execution of a workspace (rq->workspace) has a box
 * instead of a sandbox of its own; what differs for it: its end ends its process group only, and
 * its limits are what its own call gave.
 *
 *   claiming -> live -> closing (no more joins; ends with its last process) -> ended
 *
 * Its size (proto/sizes.h) is that of the process it was made for. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/proto/id.h"
#include "common/proto/sizes.h"

struct dbx_link_msg;
struct shim_box;
struct shim_exec;
struct shim_execs;
struct shim_box_record;
struct shim_sandbox;

/* One that is to stand ready before any process: with the files of record in it, and with the idle
 * time of one that has none. */
struct shim_box_order {
    struct dbx_id sandbox;
    int64_t epoch;
    char template[65];
    const struct dbx_size *size;
    int64_t idle_ms, max_ms;
};
struct dbx_json;
int shim_box_order_decode(const struct dbx_json *header, struct shim_box_order *ret,
                          struct dbx_err *err) DBX_MUST_USE;
/* Again is the same. UNAVAIL, LIMIT, CONFLICT: not now, or not here. */
int shim_box_order(struct shim_execs *execs, const struct shim_box_order *order,
                   struct dbx_err *err) DBX_MUST_USE;
/* Says of those that were ordered, and are ready, that they are: to a scheduler that may not know.
 */
void shim_boxes_announce(struct shim_execs *execs);
struct shim_box *shim_box_find(struct shim_execs *execs, const struct dbx_id *sandbox);
/* One of an earlier shim, whose sandbox lives. Its processes come by rejoin; then settle, which may
 * find that nobody is in it. What stands in its files is not known: the next process writes all of
 * record. */
struct shim_box *shim_box_adopt(struct shim_execs *execs, const struct dbx_id *id,
                                const struct shim_box_record *rec, struct shim_sandbox *sb);
void shim_box_rejoin(struct shim_exec *ex); /* ex->box and ex->sb stay NULL when there is none */
void shim_box_settle(struct shim_box *box);
bool shim_box_closing(const struct shim_box *box);
void shim_box_touch(struct shim_box *box); /* somebody watches: its idle time begins anew */
/* ex goes to claiming, and on from there when the sandbox is live: perhaps at once. */
void shim_box_join(struct shim_exec *ex);
/* Its process, when it still runs, is killed with its group. Harmless when it has left. */
void shim_box_leave(struct shim_exec *ex);
/* Its files of record: what has changed since they were last written, or 0 bytes for nothing. out
 * is initialised here. */
int shim_box_files(struct shim_exec *ex, struct dbx_buf *out, struct dbx_err *err) DBX_MUST_USE;
/* The record is at this revision; it is asked for what is not here. All: also when nobody said so.
 */
void shim_box_news(struct shim_box *box, int64_t revision);
void shim_boxes_pull(struct shim_execs *execs);
/* The answer: `since`, `revision`, and a block of what has changed between. */
int shim_box_record_files(struct shim_box *box, const struct dbx_link_msg *m,
                          struct dbx_err *err) DBX_MUST_USE;
void shim_box_forget_files(
    struct shim_box *box); /* they could not be written: all of them the next time */
/* Nobody wants it any more: its processes end as CANCELLED, then it ends. */
void shim_box_cancel(struct shim_box *box);
/* One of its processes does not end: the sandbox does, and everybody in it. */
void shim_box_give_up(struct shim_box *box);
/* Ends the one that is missed least of those in which nobody is: of the unused, if there are any,
 * that which stands longest, else the longest idle, when it has been so for a moment. NULL: there
 * is none. */
struct shim_sandbox *shim_boxes_spare(struct shim_execs *execs);
void shim_boxes_end(struct shim_execs *execs); /* all, now */
void shim_boxes_each(struct shim_execs *execs, void (*fn)(const char *id, void *user), void *user);

/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits here for a process to start or to end. News come from the scheduler's pushes; what was
 * said while its link was down is read from the database. News may come twice; handlers do not
 * mind. */
#pragma once

#include "common/base/list.h"
#include "gateway/process.h"

struct gw;
struct gw_watches;

/* Embedded in whoever waits. */
struct gw_watch {
    struct dbx_list node;
    struct gw_watched *_at; /* NULL: not added */
    void (*on_started)(struct gw_watch *w);
    void (*on_ended)(struct gw_watch *w, const struct gw_end *end);
};

struct gw_watches *gw_watches_new(struct gw *gw);
struct gw_watches *gw_watches_free(struct gw_watches *ws); /* none may be left */
/* verify: what is known of the process may be old already, so its row is read (again) soon. */
void gw_watch_add(struct gw_watches *ws, struct gw_watch *w, const struct dbx_id *process,
                  bool verify);
void gw_watch_remove(struct gw_watch *w); /* harmless when not added; allowed in any callback */

void gw_watches_started(struct gw_watches *ws, const struct dbx_id *process);
void gw_watches_ended(struct gw_watches *ws, const struct dbx_id *process,
                      const struct gw_end *end);
void gw_watches_resync(struct gw_watches *ws); /* reads all that is watched anew */

/* SPDX-License-Identifier: Apache-2.0 */
/* Follows one sandbox in the output log, for one reader of it, and knows how far it has come: so it
 * can say when everything that stands in the log now has been seen. Where the log has lost
 * something it goes on in the archive (archived.h), and comes back. */
#pragma once

#include "common/proto/output_log.h"
#include "common/proto/record.h"

struct gw_follow;

struct gw_follow_handlers {
    /* Return false to be held back; gw_follow_resume brings the same record again. */
    bool (*on_record)(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user);
    /* Part of the log was gone before it was read; what is archived of it comes now. May be NULL.
     */
    void (*on_lost)(void *user);
    /* Whether records of the process are wanted from the archive. NULL: of none. */
    bool (*wants)(const struct dbx_id *process, void *user);
    /* What stood in the log when gw_follow_to_end was called has all been given. */
    void (*on_end)(void *user);
    /* It cannot be read; nothing more will come. Free it. */
    void (*on_error)(const struct dbx_err *err, void *user);
};

struct gw;
/* Needs gw->olog. Never calls back before it returned. May be freed in its own callbacks. */
struct gw_follow *gw_follow_new(struct gw *gw, const struct dbx_id *sandbox, int64_t from,
                                const struct gw_follow_handlers *h, void *user);
struct gw_follow *gw_follow_free(struct gw_follow *f);
void gw_follow_resume(struct gw_follow *f); /* harmless when it is not held back */
/* Reads on from another place; forgets that it was held back. */
void gw_follow_restart(struct gw_follow *f, int64_t from);
int64_t gw_follow_at(const struct gw_follow *f);
/* Asks for on_end, once; never called back before it returned. Again while one is asked for: the
 * newer end counts. */
void gw_follow_to_end(struct gw_follow *f);

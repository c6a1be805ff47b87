/* SPDX-License-Identifier: Apache-2.0 */
/* The files that a daemon sees: a mount namespace of its own, whose root is an empty tmpfs into
 * which what it may see is bound. Folders stay the host's (a socket that is made anew there later
 * is seen); files are copied, so that what only root may read need not be given to another user. */
#pragma once

#include "common/base/err.h"
#include <sys/types.h>

#define VIEW_MAX 64

struct view {
    const char *root; /* an empty folder; made when it is missing */
    struct {
        const char *path; /* borrowed */
        bool own;
    } item[VIEW_MAX];
    size_t n;
};

/* own: a folder that is the user's, made and given to it with all that is in it; else read-only,
 * and what is missing is left out. */
void view_add(struct view *v, const char *path, bool own);
/* For good: this process and what it starts. */
int view_enter(const struct view *v, uid_t uid, struct dbx_err *err) DBX_MUST_USE;

/* The tree is uid's and gid's from now on, with mode at its top; it is walked only when the top was
 * somebody else's. share: whatever is made in it later belongs to the group too. */
int view_give(const char *path, uid_t uid, gid_t gid, mode_t mode, bool share,
              struct dbx_err *err) DBX_MUST_USE;

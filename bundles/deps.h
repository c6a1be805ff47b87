/* SPDX-License-Identifier: Apache-2.0 */
/* Dependency layers: what a lock file names, installed once, by the real installer, in a sandbox of
 * its own, and then attached to every sandbox whose project has the same lock file.
 *
 * A layer is shared by all who have the same file, so nothing goes into its making but what its key
 * is a hash of: the template and its image, the lock file, and of the manifest what the installer
 * reads of dependencies. Lock files that reach beyond that (paths, URLs, other files) make none.
 * Where versions are not pinned the key holds the day as well: what was installed is a day old at
 * most. */
#pragma once

#include "bundles/bundles.h"
#include "bundles/layers.h"

#define BND_MAX_LOCK (8u << 20)

struct bnd_deps {
    const struct bnd_dependency *what; /* the template's */
    char key[BND_LAYER_KEY + 1];
    struct dbx_buf files; /* a block: what the installer is given */
};
/* 1 and ret; 0 when the files have no lock file that makes a layer, err then says why it makes none
 * (nothing when there is none at all). today: days since 1970. */
int bnd_deps_find(const struct bnd_template *tpl, const struct bnd_files *files, int64_t today,
                  struct bnd_deps *ret, struct dbx_err *err) DBX_MUST_USE;
void bnd_deps_done(struct bnd_deps *deps);

/* Whether a lock file, and the manifest beside it, say all that goes into an installation; -EINVAL
 * and words when not, or when it is malformed. *ret_pinned: it names versions. manifest is replaced
 * by what the installer is to see of it. For deps.c, tests and the fuzzer. */
int bnd__lock_check(enum bnd_lock_kind kind, const struct dbx_buf *lock, struct dbx_buf *manifest,
                    bool *ret_pinned, struct dbx_err *err) DBX_MUST_USE;

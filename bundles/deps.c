/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/deps.h"

#include "common/base/str.h"
#include "common/proto/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void hash_part(struct dbx_sha256_ctx *sha, const void *data, size_t len)
{
    uint64_t n = len;
    dbx_sha256_update(sha, &n, sizeof(n)); /* so that parts cannot be shifted */
    dbx_sha256_update(sha, data, len);
}

static void make_key(const struct bnd_template *tpl, const struct bnd_dependency *what,
                     const struct dbx_buf *lock, const struct dbx_buf *manifest, int64_t day,
                     char out[static BND_LAYER_KEY + 1])
{
    struct dbx_sha256_ctx *sha = dbx_sha256_new();
    uint8_t sum[DBX_SHA256_LEN];
    hash_part(sha, "devbox layer 1", 14);
    hash_part(sha, tpl->name, strlen(tpl->name));
    hash_part(sha, tpl->digest, strlen(tpl->digest));
    hash_part(sha, what->lock, strlen(what->lock));
    hash_part(sha, what->into, strlen(what->into));
    hash_part(sha, what->build, strlen(what->build));
    hash_part(sha, lock->data, lock->len);
    hash_part(sha, manifest->data, manifest->len);
    hash_part(sha, &day, sizeof(day));
    dbx_sha256_peek(sha, sum);
    dbx_sha256_free(sha);
    dbx_hex_encode(sum, sizeof(sum), out);
}

static int add(struct dbx_buf *block, const char *path, const struct dbx_buf *data)
{
    const struct dbx_file f = {.mode = 0644,
                               .path = path,
                               .path_len = (uint16_t)strlen(path),
                               .data = data->data,
                               .size = data->len};
    return dbx_files_add(block, &f);
}

static int look(const struct bnd_template *tpl, const struct bnd_dependency *what,
                const struct bnd_files *files, int64_t today, struct bnd_deps *ret,
                struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf lock = {0};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf manifest = {0};
    bool pinned = false;
    dbx_buf_init(&lock, BND_MAX_LOCK);
    dbx_buf_init(&manifest, BND_MAX_LOCK);
    if (!files->has(files->ctx, what->lock) ||
        (what->manifest && !files->has(files->ctx, what->manifest)))
        return 0;
    int r = files->read(files->ctx, what->lock, &lock);
    if (r == 0 && what->manifest)
        r = files->read(files->ctx, what->manifest, &manifest);
    if (r < 0)
        return dbx_err_field(err, what->lock, "is larger than %u bytes", BND_MAX_LOCK);
    r = bnd__lock_check(what->kind, &lock, &manifest, &pinned, err);
    if (r < 0)
        return r;
    *ret = (struct bnd_deps){.what = what};
    make_key(tpl, what, &lock, &manifest, pinned ? 0 : today, ret->key);
    dbx_buf_init(&ret->files, 2 * BND_MAX_LOCK + DBX_MAX_HEADER);
    r = dbx_files_begin(&ret->files);
    if (r == 0)
        r = add(&ret->files, what->lock, &lock);
    if (r == 0 && what->manifest)
        r = add(&ret->files, what->manifest, &manifest);
    if (r < 0) {
        bnd_deps_done(ret);
        return dbx_err_field(err, what->lock, "does not fit");
    }
    return 1;
}

int bnd_deps_find(const struct bnd_template *tpl, const struct bnd_files *files, int64_t today,
                  struct bnd_deps *ret, struct dbx_err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && tpl->digest && i < tpl->n_dependencies; i++)
        r = look(tpl, &tpl->dependencies[i], files, today, ret, err);
    return r > 0;
}

void bnd_deps_done(struct bnd_deps *deps)
{
    dbx_buf_done(&deps->files);
}

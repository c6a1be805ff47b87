/* SPDX-License-Identifier: Apache-2.0 */
/* The node's layer store.
 *
 *   DIR/tree/NAME    a layer, as sandboxes see it; may be entered but not listed, and NAME is
 * random: who was not told of a layer does not find it DIR/index/KEY    "NAME SHA256 BYTES":
 * written last, so a layer is whole or is not there; its time is that of the last use DIR/tmp what
 * is being made DIR/trash        what is to be deleted
 *
 * One process uses it. Nothing here blocks for long but bnd_layers_empty_trash, which may be called
 * from another thread. */
#pragma once

#include "common/base/err.h"
#include "common/ext/crypto.h"

#define BND_LAYER_KEY (2 * DBX_SHA256_LEN) /* hex digits */
#define BND_LAYER_NAME 32

struct bnd_layers;

struct bnd_layers_opts {
    const char *dir;
    uint64_t max_bytes; /* beyond, what was not used for longest goes */
    uint64_t keep_s;    /* but nothing that was used so lately: a sandbox may still use it */
};
int bnd_layers_open(const struct bnd_layers_opts *opts, struct bnd_layers **ret,
                    struct dbx_err *err) DBX_MUST_USE;
struct bnd_layers *bnd_layers_free(struct bnd_layers *ly);
const char *bnd_layers_tree(const struct bnd_layers *ly); /* absolute: what sandboxes are given */

/* The name of the layer of this key, which is used now; NULL: there is none. */
const char *bnd_layers_use(struct bnd_layers *ly, const char *key);
/* An empty folder for a layer in the making; the caller frees the path. */
int bnd_layers_begin(struct bnd_layers *ly, char **ret_path, struct dbx_err *err) DBX_MUST_USE;
/* A file without a name, for a layer that is packed or comes packed. */
int bnd_layers_temp(struct bnd_layers *ly, int *ret_fd, struct dbx_err *err) DBX_MUST_USE;
/* The folder is whole and durable: it becomes the layer of this key. Returns its name. */
int bnd_layers_add(struct bnd_layers *ly, const char *key, const char *path, const char *sha256,
                   uint64_t bytes, const char **ret_name, struct dbx_err *err) DBX_MUST_USE;
void bnd_layers_discard(struct bnd_layers *ly, const char *path); /* to the trash */

struct bnd_layers_stats {
    uint64_t count, bytes, removed;
};
void bnd_layers_stats(const struct bnd_layers *ly, struct bnd_layers_stats *ret);
/* Room for more: bytes that max_bytes leaves when all goes that may. */
uint64_t bnd_layers_room(const struct bnd_layers *ly);
/* The path of the trash, the caller's, when something has come there since the last call; else
 * NULL. */
char *bnd_layers_take_trash(struct bnd_layers *ly);
/* dir: DIR/trash. Takes as long as it takes. */
void bnd_layers_empty_trash(const char *dir);

/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/layers.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/rand.h"
#include "common/base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_INDEX 256
#define TOUCH_S 60 /* a use is written down so often */

struct entry {
    struct dbx_list node; /* of all, the one that was used last at the end */
    char key[BND_LAYER_KEY + 1], name[BND_LAYER_NAME + 1];
    uint64_t bytes;
    int64_t used_s;
};

struct bnd_layers {
    char *dir, *tree;
    uint64_t max_bytes, keep_s, bytes, removed;
    struct dbx_map *by_key; /* -> struct entry, owned */
    struct dbx_list all;
    bool trash;
};

static int64_t now_s(void)
{
    return dbx_wall_us() / 1000000;
}

static bool is_hex(const char *s, size_t len)
{
    return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

static char *path_of(const struct bnd_layers *ly, const char *folder, const char *name)
{
    return dbx_asprintf("%s/%s/%s", ly->dir, folder, name);
}

static void random_name(char out[static BND_LAYER_NAME + 1])
{
    uint8_t raw[BND_LAYER_NAME / 2];
    dbx_random(raw, sizeof(raw));
    dbx_hex_encode(raw, sizeof(raw), out);
}

void bnd_layers_discard(struct bnd_layers *ly, const char *path)
{
    char name[BND_LAYER_NAME + 1];
    random_name(name);
    DBX_CLEANUP(dbx_freep) char *to = path_of(ly, "trash", name);
    if (rename(path, to) == 0)
        ly->trash = true;
}

/* ---- at start ---- */

static struct entry *read_entry(struct bnd_layers *ly, const char *key)
{
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "index", key);
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    char name[BND_LAYER_NAME + 1];
    struct stat st;
    uint64_t bytes;
    if (dbx_fs_read(path, MAX_INDEX, &buf, NULL) < 0 || stat(path, &st) < 0)
        return NULL;
    const char *text = dbx_buf_cstr(&buf);
    size_t at = BND_LAYER_NAME + 1 + BND_LAYER_KEY + 1; /* two spaces, the number, a line's end */
    if (buf.len < at + 2 || text[buf.len - 1] != '\n' || strlen(text) != buf.len ||
        dbx_parse_u64(text + at, buf.len - at - 1, 0, INT64_MAX, &bytes) < 0)
        return NULL;
    memcpy(name, text, BND_LAYER_NAME);
    name[BND_LAYER_NAME] = '\0';
    DBX_CLEANUP(dbx_freep) char *tree = path_of(ly, "tree", name);
    if (!is_hex(name, BND_LAYER_NAME) || stat(tree, &st) < 0)
        return NULL;
    struct entry *e = DBX_NEW(struct entry);
    e->bytes = bytes;
    (void)dbx_strcpy(e->key, sizeof(e->key), key);
    (void)dbx_strcpy(e->name, sizeof(e->name), name);
    e->used_s = stat(path, &st) == 0 ? st.st_mtime : 0;
    return e;
}

static void close_dirp(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* Calls fn for each name in a folder of ours. */
static int each(struct bnd_layers *ly, const char *folder,
                void (*fn)(struct bnd_layers *ly, const char *name, void *user), void *user,
                struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, folder, "");
    DBX_CLEANUP(close_dirp) DIR *dir = opendir(path);
    if (!dir)
        return dbx_err_sys(err, "open %s", path);
    for (struct dirent *de; (de = readdir(dir));)
        if (de->d_name[0] != '.')
            fn(ly, de->d_name, user);
    return 0;
}

static void load_one(struct bnd_layers *ly, const char *key, void *user)
{
    struct dbx_map *names = user;
    struct entry *e = is_hex(key, BND_LAYER_KEY) ? read_entry(ly, key) : NULL;
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "index", key);
    if (!e) { /* torn, or its tree is gone */
        (void)unlink(path);
        return;
    }
    struct dbx_list *at = &ly->all; /* in the order of their use */
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ly->all)
    {
        if (dbx_list_entry(it, struct entry, node)->used_s > e->used_s) {
            at = it;
            break;
        }
    }
    dbx_list_push(at, &e->node);
    ly->bytes += e->bytes;
    (void)dbx_map_put(ly->by_key, e->key, BND_LAYER_KEY, e);
    (void)dbx_map_put(names, e->name, BND_LAYER_NAME, e);
}

static void drop_unnamed(struct bnd_layers *ly, const char *name, void *user)
{
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "tree", name);
    if (!dbx_map_get(user, name, strlen(name)))
        bnd_layers_discard(ly, path);
}

static void drop_tmp(struct bnd_layers *ly, const char *name, void *user)
{
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "tmp", name);
    (void)user;
    bnd_layers_discard(ly, path);
}

static void note_trash(struct bnd_layers *ly, const char *name, void *user)
{
    (void)name;
    (void)user;
    ly->trash = true;
}

static int make_folders(struct bnd_layers *ly, struct dbx_err *err)
{
    static const struct {
        const char *name;
        mode_t mode;
    } folders[] = {{"tree", 0711}, {"index", 0700}, {"tmp", 0700}, {"trash", 0700}};
    int r = dbx_fs_mkdirs(ly->dir, 0711, err);
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(folders); i++) {
        DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", ly->dir, folders[i].name);
        r = dbx_fs_mkdirs(path, folders[i].mode, err);
        if (r == 0 && chmod(path, folders[i].mode) < 0)
            r = dbx_err_sys(err, "chmod %s", path);
    }
    return r;
}

int bnd_layers_open(const struct bnd_layers_opts *opts, struct bnd_layers **ret,
                    struct dbx_err *err)
{
    struct bnd_layers *ly = DBX_NEW(struct bnd_layers);
    struct dbx_map *names = dbx_map_new();
    ly->dir = dbx_strdup(opts->dir);
    ly->tree = dbx_asprintf("%s/tree", opts->dir);
    ly->max_bytes = opts->max_bytes;
    ly->keep_s = opts->keep_s;
    ly->by_key = dbx_map_new();
    dbx_list_init(&ly->all);
    int r = make_folders(ly, err);
    if (r == 0)
        r = each(ly, "index", load_one, names, err);
    if (r == 0)
        r = each(ly, "tree", drop_unnamed, names, err);
    if (r == 0)
        r = each(ly, "tmp", drop_tmp, NULL, err);
    if (r == 0)
        r = each(ly, "trash", note_trash, NULL, err);
    dbx_map_free(names);
    if (r < 0)
        bnd_layers_free(ly);
    else
        *ret = ly;
    return r;
}

struct bnd_layers *bnd_layers_free(struct bnd_layers *ly)
{
    struct dbx_list *it, *tmp;
    if (!ly)
        return NULL;
    dbx_list_each(it, tmp, &ly->all)
    {
        dbx_list_remove(it);
        free(dbx_list_entry(it, struct entry, node));
    }
    dbx_map_free(ly->by_key);
    free(ly->dir);
    free(ly->tree);
    free(ly);
    return NULL;
}

const char *bnd_layers_tree(const struct bnd_layers *ly)
{
    return ly->tree;
}

/* ---- use ---- */

const char *bnd_layers_use(struct bnd_layers *ly, const char *key)
{
    struct entry *e = dbx_map_get(ly->by_key, key, strlen(key));
    int64_t now = now_s();
    if (!e)
        return NULL;
    dbx_list_remove(&e->node);
    dbx_list_push(&ly->all, &e->node);
    if (now - e->used_s >= TOUCH_S || now < e->used_s) {
        DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "index", key);
        (void)utimensat(AT_FDCWD, path, NULL, 0);
        e->used_s = now;
    }
    return e->name;
}

int bnd_layers_begin(struct bnd_layers *ly, char **ret_path, struct dbx_err *err)
{
    char name[BND_LAYER_NAME + 1];
    random_name(name);
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "tmp", name);
    if (mkdir(path, 0755) < 0 || chmod(path, 0755) < 0)
        return dbx_err_sys(err, "make %s", path);
    *ret_path = DBX_TAKE(path);
    return 0;
}

int bnd_layers_temp(struct bnd_layers *ly, int *ret_fd, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *path = path_of(ly, "tmp", "");
    int fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return dbx_err_sys(err, "make a file in %s", path);
    *ret_fd = fd;
    return 0;
}

static void drop(struct bnd_layers *ly, struct entry *e)
{
    DBX_CLEANUP(dbx_freep) char *index = path_of(ly, "index", e->key);
    DBX_CLEANUP(dbx_freep) char *tree = path_of(ly, "tree", e->name);
    (void)unlink(index); /* first: a tree without it is trash */
    bnd_layers_discard(ly, tree);
    ly->bytes -= e->bytes;
    ly->removed++;
    (void)dbx_map_del(ly->by_key, e->key, BND_LAYER_KEY);
    dbx_list_remove(&e->node);
    free(e);
}

static bool may_go(const struct bnd_layers *ly, const struct entry *e)
{
    return now_s() - e->used_s >= (int64_t)ly->keep_s;
}

static void make_room(struct bnd_layers *ly, uint64_t more)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &ly->all)
    {
        struct entry *e = dbx_list_entry(it, struct entry, node);
        if (ly->bytes + more <= ly->max_bytes || !may_go(ly, e))
            return;
        drop(ly, e);
    }
}

uint64_t bnd_layers_room(const struct bnd_layers *ly)
{
    uint64_t used = ly->bytes;
    struct dbx_map_iter it = {0};
    while (dbx_map_next(ly->by_key, &it))
        if (may_go(ly, it.value))
            used -= ((struct entry *)it.value)->bytes;
    return used < ly->max_bytes ? ly->max_bytes - used : 0;
}

int bnd_layers_add(struct bnd_layers *ly, const char *key, const char *path, const char *sha256,
                   uint64_t bytes, const char **ret_name, struct dbx_err *err)
{
    struct entry *old = dbx_map_get(ly->by_key, key, strlen(key));
    if (!is_hex(key, BND_LAYER_KEY) || !is_hex(sha256, BND_LAYER_KEY))
        return dbx_err_set(err, -EINVAL, DBX_INTERNAL, "no key or digest of a layer");
    if (old) { /* somebody was quicker */
        bnd_layers_discard(ly, path);
        *ret_name = bnd_layers_use(ly, key);
        return 0;
    }
    make_room(ly, bytes);
    if (ly->bytes + bytes > ly->max_bytes) {
        bnd_layers_discard(ly, path);
        return dbx_err_set(err, -ENOSPC, DBX_LIMIT,
                           "the node's layers that are in use leave no room");
    }
    struct entry *e = DBX_NEW(struct entry);
    (void)dbx_strcpy(e->key, sizeof(e->key), key);
    random_name(e->name);
    e->bytes = bytes;
    e->used_s = now_s();
    DBX_CLEANUP(dbx_freep) char *tree = path_of(ly, "tree", e->name);
    DBX_CLEANUP(dbx_freep) char *index = path_of(ly, "index", key);
    DBX_CLEANUP(dbx_freep) char *line = dbx_asprintf("%s %s %" PRIu64 "\n", e->name, sha256, bytes);
    int r = rename(path, tree) < 0 ? dbx_err_sys(err, "rename %s", path)
                                   : dbx_fs_write_atomic(index, line, strlen(line), 0600, err);
    if (r < 0) {
        bnd_layers_discard(ly, tree);
        free(e);
        return r;
    }
    dbx_list_push(&ly->all, &e->node);
    (void)dbx_map_put(ly->by_key, e->key, BND_LAYER_KEY, e);
    ly->bytes += bytes;
    *ret_name = e->name;
    return 0;
}

void bnd_layers_stats(const struct bnd_layers *ly, struct bnd_layers_stats *ret)
{
    *ret = (struct bnd_layers_stats){
        .count = dbx_map_count(ly->by_key), .bytes = ly->bytes, .removed = ly->removed};
}

/* ---- trash ---- */

char *bnd_layers_take_trash(struct bnd_layers *ly)
{
    if (!ly->trash)
        return NULL;
    ly->trash = false;
    return dbx_asprintf("%s/trash", ly->dir);
}

void bnd_layers_empty_trash(const char *dir)
{
    DBX_CLEANUP(close_dirp) DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *de; (de = readdir(d));) {
        if (de->d_name[0] == '.')
            continue;
        DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, de->d_name);
        (void)!dbx_fs_remove_tree(path, NULL);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/layers.h"

#include "common/base/fs.h"
#include "common/base/str.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[] = "/tmp/test-layers.XXXXXX";

static struct bnd_layers *open_store(uint64_t max, uint64_t keep_s)
{
    const struct bnd_layers_opts opts = {.dir = dir, .max_bytes = max, .keep_s = keep_s};
    struct bnd_layers *ly = NULL;
    struct dbx_err err = {0};
    CHECK_EQ(bnd_layers_open(&opts, &ly, &err), 0);
    return ly;
}

static const char *key_of(char c)
{
    static char key[BND_LAYER_KEY + 1];
    memset(key, c, BND_LAYER_KEY);
    return key;
}

static int add(struct bnd_layers *ly, char c, uint64_t bytes, const char **ret)
{
    struct dbx_err err = {0};
    char *path = NULL;
    CHECK_EQ(bnd_layers_begin(ly, &path, &err), 0);
    DBX_CLEANUP(dbx_freep) char *file = dbx_asprintf("%s/f", path);
    CHECK_EQ(dbx_fs_write_atomic(file, "x", 1, 0644, &err), 0);
    int r = bnd_layers_add(ly, key_of(c), path, key_of('0'), bytes, ret, &err);
    free(path);
    return r;
}

/* As if it had not been used for so long. */
static void age(char c, int seconds)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/index/%s", dir, key_of(c));
    struct timespec t = {.tv_sec = time(NULL) - seconds};
    const struct timespec times[2] = {t, t};
    CHECK_EQ(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool is_there(const char *folder, const char *name)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s/%s", dir, folder, name);
    return access(path, F_OK) == 0;
}

static void test_use(void)
{
    struct bnd_layers *ly = open_store(1000, 100);
    const char *name = NULL, *again = NULL;
    char kept[BND_LAYER_NAME + 1];
    struct bnd_layers_stats st;
    CHECK(!bnd_layers_use(ly, key_of('a')));
    CHECK_EQ(add(ly, 'a', 400, &name), 0);
    CHECK_STR(bnd_layers_use(ly, key_of('a')), name);
    CHECK_EQ(add(ly, 'a', 400, &again), 0); /* the first stays */
    CHECK_STR(again, name);
    (void)dbx_strcpy(kept, sizeof(kept), name);
    CHECK_EQ(add(ly, 'b', 500, &name), 0);
    CHECK_EQ(add(ly, 'c', 500, &name), -ENOSPC); /* both may be in use */
    CHECK_EQ(bnd_layers_room(ly), 100);
    bnd_layers_free(ly);

    age('a', 50);
    age('b', 1000);
    ly = open_store(1000, 100);
    CHECK_EQ(bnd_layers_room(ly), 600);
    CHECK_EQ(add(ly, 'c', 500, &name), 0); /* b goes */
    CHECK(!bnd_layers_use(ly, key_of('b')) && bnd_layers_use(ly, key_of('c')));
    CHECK_STR(bnd_layers_use(ly, key_of('a')), kept);
    bnd_layers_stats(ly, &st);
    CHECK_EQ(st.count, 2);
    CHECK_EQ(st.bytes, 900);
    CHECK_EQ(st.removed, 1);
    DBX_CLEANUP(dbx_freep) char *trash = bnd_layers_take_trash(ly);
    CHECK(trash && !bnd_layers_take_trash(ly));
    bnd_layers_empty_trash(trash);
    CHECK_EQ(rmdir(trash), 0); /* it is empty */
    bnd_layers_free(ly);
}

/* What a killed one leaves: a tree without an index, an index without a tree, half an index. */
static void test_torn(void)
{
    struct bnd_layers *ly = open_store(1000, 100);
    const char *name = NULL;
    char *path = NULL;
    char whole[BND_LAYER_NAME + 1];
    struct dbx_err err = {0};
    CHECK_EQ(add(ly, 'd', 1, &name), 0);
    (void)dbx_strcpy(whole, sizeof(whole), name);
    CHECK_EQ(add(ly, 'e', 1, &name), 0);
    CHECK_EQ(bnd_layers_begin(ly, &path, &err), 0);
    DBX_CLEANUP(dbx_freep) char *orphan = dbx_asprintf("%s/tree/%032d", dir, 7);
    CHECK_EQ(mkdir(orphan, 0755), 0);
    DBX_CLEANUP(dbx_freep) char *tree = dbx_asprintf("%s/tree/%s", dir, name);
    CHECK_EQ(dbx_fs_remove_tree(tree, &err), 0);
    DBX_CLEANUP(dbx_freep) char *half = dbx_asprintf("%s/index/%s", dir, key_of('f'));
    CHECK_EQ(dbx_fs_write_atomic(half, whole, 20, 0600, &err), 0);
    bnd_layers_free(ly);
    ly = open_store(1000, 100);
    CHECK_STR(bnd_layers_use(ly, key_of('d')), whole);
    CHECK(!bnd_layers_use(ly, key_of('e')) && !bnd_layers_use(ly, key_of('f')));
    CHECK(access(orphan, F_OK) < 0 && access(path, F_OK) < 0 && access(half, F_OK) < 0);
    CHECK(is_there("tree", whole) && !is_there("index", key_of('e')));
    free(path);
    bnd_layers_free(ly);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    test_use();
    test_torn();
    CHECK_EQ(dbx_fs_remove_tree(dir, NULL), 0);
    return check_result();
}

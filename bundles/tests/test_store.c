/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/bundles.h"
#include "common/base/fs.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* sha256 of "abc" */
#define DIGEST "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static char dir[] = "/tmp/bnd-store-XXXXXX";

static void put(const char *name, const char *data)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, name);
    struct dbx_err err = {0};
    if (dbx_fs_write_atomic(path, data, strlen(data), 0644, &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
}

static void test_templates(struct bnd_store *store)
{
    static const char *const names[] = {"go", "node", "python", "rust"};
    CHECK_EQ(bnd_store_count(store), 4);
    for (size_t i = 0; i < 4 && i < bnd_store_count(store); i++)
        CHECK_STR(bnd_store_at(store, i)->name, names[i]);
    CHECK(bnd_template_find(store, "cobol") == NULL);
    const struct bnd_template *py = bnd_template_find(store, "python");
    bool unbuffered = false, home = false;
    for (const char *const *e = py->env; *e; e++) {
        unbuffered = unbuffered || strcmp(*e, "PYTHONUNBUFFERED=1") == 0;
        home = home || strcmp(*e, "HOME=/home/dev") == 0;
    }
    CHECK(unbuffered && home);
    CHECK(!py->has_compile);
    CHECK(bnd_template_find(store, "rust")->has_compile);
    CHECK(bnd_template_guess(store, "a.d/x.py") == py);
    CHECK(bnd_template_guess(store, "x.rs") == bnd_template_find(store, "rust"));
    CHECK(bnd_template_guess(store, "a.py/x") == NULL);
    CHECK(bnd_template_guess(store, "x") == NULL);
}

static void test_images(struct bnd_store *store)
{
    const struct bnd_template *py = bnd_template_find(store, "python");
    struct dbx_err err = {0};
    bool changed = true;
    CHECK_EQ(bnd_store_refresh(store, &changed, &err), 0);
    CHECK(!changed && !py->image && err.code == 0);

    put("images/python.json",
        "{\"template\":\"python\",\"digest\":\"" DIGEST "\",\"bytes\":3,\"key\":\"k\"}");
    CHECK_EQ(bnd_store_refresh(store, &changed, &err), 0);
    CHECK(!changed && !py->image && err.code == -ENOENT); /* named, but not there */

    put("images/" DIGEST ".erofs", "abc");
    memset(&err, 0, sizeof(err));
    CHECK_EQ(bnd_store_refresh(store, &changed, &err), 0);
    CHECK(changed && py->image && err.code == 0);
    CHECK_STR(py->digest, DIGEST);
    CHECK_EQ(py->image_bytes, 3);
    CHECK_EQ(bnd_image_verify(py->image, py->digest, &err), 0);
    CHECK_EQ(bnd_store_refresh(store, &changed, &err), 0);
    CHECK(!changed);

    put("images/" DIGEST ".erofs", "abd");
    CHECK_EQ(bnd_image_verify(py->image, py->digest, &err), -EBADMSG);
    CHECK_EQ(bnd_image_verify("/nonexistent", py->digest, &err), -ENOENT);
    put("images/" DIGEST ".erofs", "abcd");
    CHECK_EQ(bnd_store_refresh(store, &changed, &err), 0);
    CHECK(changed && !py->image && !py->digest && err.code == -EBADMSG);
}

static void test_manifests(struct bnd_store *store)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"template\":\"node\",\"digest\":\"" DIGEST "\",\"bytes\":3,\"key\":\"k\"}",
        "{\"template\":\"python\",\"digest\":\"../" DIGEST "\",\"bytes\":3,\"key\":\"k\"}",
        "{\"template\":\"python\",\"digest\":\"B" DIGEST "\",\"bytes\":3,\"key\":\"k\"}",
        "{\"template\":\"python\",\"digest\":\"" DIGEST "\",\"bytes\":0,\"key\":\"k\"}",
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        struct dbx_err err = {0};
        put("images/python.json", bad[i]);
        CHECK_EQ(bnd_store_refresh(store, NULL, &err), 0);
        CHECK(err.code < 0 && !bnd_template_find(store, "python")->image);
    }
}

int main(void)
{
    struct bnd_store *store = NULL;
    struct dbx_err err = {0};
    if (!mkdtemp(dir))
        return 1;
    DBX_CLEANUP(dbx_freep) char *images = dbx_asprintf("%s/images", dir);
    CHECK_EQ(dbx_fs_mkdirs(images, 0755, &err), 0);
    CHECK(bnd_store_open(dir, "/nonexistent", &store, &err) < 0);
    CHECK(bnd_store_open(dir, images, &store, &err) < 0); /* no template there */
    CHECK_EQ(bnd_store_open(dir, BND_SOURCE_DIR "/templates", &store, &err), 0);
    if (store) {
        test_templates(store);
        test_images(store);
        test_manifests(store);
    }
    put("images/bad.json", "{\"name\":\"good\"}");
    struct bnd_store *other = NULL;
    CHECK(bnd_store_open(dir, images, &other, &err) < 0);
    CHECK(strstr(err.msg, "images/") != NULL);
    store = bnd_store_free(store);
    CHECK_EQ(dbx_fs_remove_tree(dir, &err), 0);
    return check_result();
}

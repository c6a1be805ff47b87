/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/bundles.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "tests/unit/check.h"

#include <stdlib.h>

static const struct bnd_spec_opts good = {
    .id = "sb_1-A",
    .image = "/c/images/x.erofs",
    .overlay_dir = "/state/overlay",
    .disk_bytes = 256 << 20,
    .shm_bytes = 64 << 20,
    .init_dir = "/lib/devbox/init",
    .cgroup_path = "/devbox/sb_1-A",
    .caps = BND_CAPS_INIT,
};

static const struct dbx_json *at(const struct dbx_json *node, const char *a, const char *b)
{
    node = dbx_json_get(node, a);
    return b ? dbx_json_get(node, b) : node;
}

static bool has_word(const struct dbx_json *array, const char *word)
{
    for (size_t i = 0; i < dbx_json_count(array); i++)
        if (dbx_streq(dbx_json_str(dbx_json_at(array, i), NULL), word))
            return true;
    return false;
}

static const struct dbx_json *mount_at(const struct dbx_json *root, const char *dest)
{
    const struct dbx_json *mounts = dbx_json_get(root, "mounts");
    for (size_t i = 0; i < dbx_json_count(mounts); i++)
        if (dbx_streq(dbx_json_get_str(dbx_json_at(mounts, i), "destination"), dest))
            return dbx_json_at(mounts, i);
    return NULL;
}

static struct dbx_json_doc *written(const struct bnd_spec_opts *o)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {0};
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0};
    dbx_buf_init(&out, 64 << 10);
    CHECK_EQ(bnd_spec_write(o, &out, &err), 0);
    CHECK_EQ(dbx_json_parse(out.data, out.len, NULL, &doc, &err), 0);
    return doc;
}

static void test_process(void)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = written(&good);
    const struct dbx_json *root = dbx_json_root(doc), *p = dbx_json_get(root, "process");
    CHECK_EQ(dbx_json_count(dbx_json_get(p, "args")), 1);
    CHECK(has_word(dbx_json_get(p, "args"), "/.devbox/init"));
    CHECK_EQ(dbx_json_get_i64(dbx_json_get(p, "user"), "uid", -1), 0);
    CHECK(dbx_json_get_bool(p, "noNewPrivileges", false));
    CHECK(!dbx_json_get_bool(p, "terminal", true));
    CHECK_EQ(dbx_json_count(at(p, "capabilities", "bounding")), 7);
    CHECK_EQ(dbx_json_count(at(p, "capabilities", "effective")), 7);
    CHECK(at(p, "capabilities", "inheritable") != NULL);
    CHECK_EQ(dbx_json_count(at(p, "capabilities", "inheritable")), 0);
    CHECK_EQ(dbx_json_count(at(p, "capabilities", "ambient")), 0);

    struct bnd_spec_opts less = good;
    const char *const args[] = {"--keep", NULL};
    less.caps = BND_CAP_SETUID;
    less.init_args = args;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc2 = written(&less);
    p = dbx_json_get(dbx_json_root(doc2), "process");
    CHECK_EQ(dbx_json_count(at(p, "capabilities", "permitted")), 1);
    CHECK(has_word(at(p, "capabilities", "permitted"), "CAP_SETUID"));
    CHECK(has_word(dbx_json_get(p, "args"), "--keep"));
}

static void test_files(void)
{
    struct bnd_spec_opts o = good;
    o.layers_dir = "/cache/layers";
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = written(&good);
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc2 = written(&o);
    const struct dbx_json *root = dbx_json_root(doc), *a = dbx_json_get(root, "annotations");
    CHECK_STR(dbx_json_get_str(a, "dev.gvisor.spec.rootfs.source"), good.image);
    CHECK_STR(dbx_json_get_str(a, "dev.gvisor.spec.rootfs.type"), "erofs");
    CHECK_STR(dbx_json_get_str(a, "dev.gvisor.spec.rootfs.overlay"), "dir=/state/overlay");
    CHECK_STR(dbx_json_get_str(a, "dev.gvisor.spec.rootfs.options"), "size=268435456");
    CHECK_EQ(dbx_json_count(a), 4);
    const struct dbx_json *m = mount_at(root, "/.devbox");
    CHECK_STR(dbx_json_get_str(m, "source"), good.init_dir);
    CHECK(has_word(dbx_json_get(m, "options"), "ro"));
    CHECK(has_word(dbx_json_get(mount_at(root, "/dev/shm"), "options"), "size=67108864"));
    CHECK(mount_at(root, "/.layers") == NULL);
    CHECK(mount_at(root, "/tmp") == NULL);
    m = mount_at(dbx_json_root(doc2), "/.layers");
    CHECK(has_word(dbx_json_get(m, "options"), "ro"));
    CHECK_STR(dbx_json_get_str(at(root, "linux", NULL), "cgroupsPath"), good.cgroup_path);
    CHECK(at(root, "linux", "resources") == NULL);
}

static void test_resources(void)
{
    struct bnd_spec_opts o = good;
    o.cgroup_path = NULL;
    o.memory_bytes = 1 << 30;
    o.cpu_quota_us = 200000;
    o.pids = 400;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = written(&o);
    const struct dbx_json *r = at(dbx_json_root(doc), "linux", "resources");
    CHECK(at(dbx_json_root(doc), "linux", "cgroupsPath") == NULL);
    CHECK_EQ(dbx_json_get_i64(at(r, "memory", NULL), "limit", 0), 1 << 30);
    CHECK_EQ(dbx_json_get_i64(at(r, "cpu", NULL), "quota", 0), 200000);
    CHECK_EQ(dbx_json_get_i64(at(r, "pids", NULL), "limit", 0), 400);
}

static void refuse(const struct bnd_spec_opts *o, const char *field)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {0};
    struct dbx_err err = {0};
    dbx_buf_init(&out, 64 << 10);
    CHECK(bnd_spec_write(o, &out, &err) < 0);
    CHECK_STR(err.field, field);
    CHECK_EQ(out.len, 0);
}

static void test_refusals(void)
{
    struct bnd_spec_opts o;
#define REFUSE(field, value)                                                                       \
    do {                                                                                           \
        o = good;                                                                                  \
        o.field = (value);                                                                         \
        refuse(&o, #field);                                                                        \
    } while (0)
    REFUSE(id, "");
    REFUSE(id, "a/b");
    REFUSE(id, NULL);
    REFUSE(image, "x.erofs");
    REFUSE(image, NULL);
    REFUSE(image, "/a/../b");
    REFUSE(image, "/a/..");
    REFUSE(overlay_dir, "/a,size=1");
    REFUSE(overlay_dir, "/a:b");
    REFUSE(init_dir, "/a\nb");
    REFUSE(layers_dir, "layers");
    REFUSE(cgroup_path, "/devbox/../x");
    REFUSE(disk_bytes, 0);
    REFUSE(shm_bytes, 0);
    REFUSE(caps, 1u << 20);
    o = good;
    o.image = "/a/\xff.erofs";
    refuse(&o, "");
}

static void test_bundle(void)
{
    char dir[] = "/tmp/bnd-spec-XXXXXX";
    struct dbx_err err = {0};
    struct stat st;
    if (!mkdtemp(dir)) {
        CHECK(false);
        return;
    }
    DBX_CLEANUP(dbx_freep) char *bundle = dbx_asprintf("%s/b", dir);
    DBX_CLEANUP(dbx_freep) char *root = dbx_asprintf("%s/b/rootfs", dir);
    DBX_CLEANUP(dbx_freep) char *config = dbx_asprintf("%s/b/config.json", dir);
    CHECK_EQ(bnd_bundle_create(bundle, &good, &err), 0);
    CHECK(stat(root, &st) == 0 && S_ISDIR(st.st_mode));
    CHECK(stat(config, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK_EQ(dbx_fs_remove_tree(dir, &err), 0);
}

static void test_runsc_args(void)
{
    const struct bnd_runsc_opts o = {.runsc = "/c/runsc",
                                     .root = "/s/runsc",
                                     .log = "/s/log",
                                     .overlay_dir = "/s/overlay",
                                     .no_fast_path = true};
    const char *const command[] = {"create", "--bundle", "/b", "id", NULL};
    DBX_CLEANUP(bnd_argv_freep) char **argv = bnd_runsc_args(&o, command);
    static const char *const wanted[] = {"--root=/s/runsc",   "--network=none",
                                         "--host-uds=none",   "--overlay2=root:dir=/s/overlay",
                                         "--directfs=false",  "--log=/s/log",
                                         "--log-format=json", "--systrap-disable-fast-path=true"};
    size_t n = 0;
    while (argv[n])
        n++;
    CHECK_STR(argv[0], "/c/runsc");
    CHECK_STR(argv[n - 4], "create");
    CHECK_STR(argv[n - 1], "id");
    for (size_t i = 0; i < DBX_ARRAY_LEN(wanted); i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found = found || strcmp(argv[k], wanted[i]) == 0;
        CHECK(found);
    }
}

int main(void)
{
    test_process();
    test_files();
    test_resources();
    test_refusals();
    test_bundle();
    test_runsc_args();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/layer/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fd.h"
#include "common/base/fs.h"
#include "tests/unit/check.h"

static const struct layer_limits limits = {
    .entries = 12, .file = 4000, .all = 8000, .ratio = 10, .ratio_at = 6000};

struct item {
    const char *name;
    unsigned type, mode;
    const char *target; /* of a symbolic link; of what begins with '=', a hard link */
    size_t len;
};

/* A tar of these, as a descriptor. */
static int make(const struct item *items, bool zstd)
{
    static const char content[5000];
    int fd = memfd_create("tar", MFD_CLOEXEC);
    struct archive *a = archive_write_new();
    archive_write_set_format_pax_restricted(a);
    if (zstd)
        archive_write_add_filter_zstd(a);
    CHECK_EQ(archive_write_open_fd(a, fd), ARCHIVE_OK);
    for (; items->name; items++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, items->name);
        archive_entry_set_filetype(e, items->type);
        archive_entry_set_perm(e, (mode_t)(items->mode ? items->mode : 0644));
        archive_entry_set_mtime(e, 1000000000, 0);
        archive_entry_set_size(e, (la_int64_t)items->len);
        archive_entry_xattr_add_entry(e, "security.capability", "x", 1);
        if (items->target && items->target[0] == '=')
            archive_entry_set_hardlink(e, items->target + 1);
        else if (items->target)
            archive_entry_set_symlink(e, items->target);
        CHECK(archive_write_header(a, e) >= ARCHIVE_WARN); /* names that are no UTF-8 */
        archive_write_data(a, content, items->len);
        archive_entry_free(e);
    }
    archive_write_free(a);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* Into a folder of its own, which is returned where the caller wants it. */
static int extract(const struct item *items, bool zstd, int *ret_root, struct layer_result *ret,
                   struct dbx_err *err)
{
    char folder[] = "/tmp/test-layer.XXXXXX";
    struct layer_result res;
    int in = make(items, zstd);
    CHECK(mkdtemp(folder));
    int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *err = (struct dbx_err){0};
    int r = layer_extract(in, root, -1, &limits, ret ? ret : &res, err);
    dbx_close(in);
    if (ret_root)
        *ret_root = root;
    else
        dbx_close(root);
    CHECK_EQ(dbx_fs_remove_tree(folder, NULL), 0);
    return r;
}

static void test_refused(void)
{
    static const struct {
        const char *what;
        struct item items[4];
        enum dbx_kind kind;
    } cases[] = {
        {"upward", {{"../../x", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"upward within", {{"a/../../x", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"absolute", {{"/abs", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"backslash", {{"..\\x", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"drive", {{"C:x", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"control", {{"a\tb", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"no UTF-8", {{"a\xff", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"link outside", {{"a", AE_IFLNK, 0, "../x", 0}}, DBX_INVALID},
        {"link to /", {{"a", AE_IFLNK, 0, "/etc/passwd", 0}}, DBX_INVALID},
        {"link through a name", {{"a", AE_IFLNK, 0, "b/../../x", 0}}, DBX_INVALID},
        {"through a link",
         {{"l", AE_IFLNK, 0, ".", 0}, {"l/x", AE_IFREG, 0, NULL, 1}},
         DBX_INVALID},
        {"over a link", {{"l", AE_IFLNK, 0, "b", 0}, {"l", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"folder over a link",
         {{"l", AE_IFLNK, 0, "b", 0}, {"l", AE_IFDIR, 0, NULL, 0}},
         DBX_INVALID},
        {"hard link outside", {{"a", AE_IFREG, 0, "=/etc/passwd", 0}}, DBX_INVALID},
        {"hard link upward", {{"a", AE_IFREG, 0, "=../x", 0}}, DBX_INVALID},
        {"hard link to a link",
         {{"l", AE_IFLNK, 0, "b", 0}, {"a", AE_IFREG, 0, "=l", 0}},
         DBX_INVALID},
        {"twice", {{"a", AE_IFREG, 0, NULL, 1}, {"./a", AE_IFREG, 0, NULL, 1}}, DBX_INVALID},
        {"file, then folder",
         {{"a", AE_IFREG, 0, NULL, 1}, {"a", AE_IFDIR, 0, NULL, 0}},
         DBX_INVALID},
        {"file, then below",
         {{"a", AE_IFREG, 0, NULL, 1}, {"a/b", AE_IFREG, 0, NULL, 1}},
         DBX_INVALID},
        {"setuid", {{"a", AE_IFREG, 04755, NULL, 1}}, DBX_INVALID},
        {"setgid folder", {{"a", AE_IFDIR, 02755, NULL, 0}}, DBX_INVALID},
        {"device", {{"a", AE_IFBLK, 0, NULL, 0}}, DBX_INVALID},
        {"character device", {{"a", AE_IFCHR, 0, NULL, 0}}, DBX_INVALID},
        {"pipe", {{"a", AE_IFIFO, 0, NULL, 0}}, DBX_INVALID},
        {"whiteout", {{"d/.wh.x", AE_IFREG, 0, NULL, 0}}, DBX_INVALID},
        {"opaque", {{".wh..wh..opq", AE_IFREG, 0, NULL, 0}}, DBX_INVALID},
        {"whiteout of nothing", {{".wh.", AE_IFREG, 0, NULL, 0}}, DBX_INVALID},
        {"below a whiteout", {{".wh.a/b", AE_IFREG, 0, NULL, 0}}, DBX_INVALID},
        {"large file", {{"a", AE_IFREG, 0, NULL, 4001}}, DBX_LIMIT},
        {"large in all",
         {{"a", AE_IFREG, 0, NULL, 4000},
          {"b", AE_IFREG, 0, NULL, 4000},
          {"c", AE_IFREG, 0, NULL, 1}},
         DBX_LIMIT},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        struct dbx_err err;
        CHECK(extract(cases[i].items, false, NULL, NULL, &err) < 0);
        if (err.kind != cases[i].kind)
            fprintf(stderr, "%s: kind %d: %s\n", cases[i].what, (int)err.kind, err.msg);
        CHECK_EQ(err.kind, cases[i].kind);
    }
}

static void test_bounds(void)
{
    struct dbx_err err;
    struct item many[15] = {0};
    char names[14][4];
    for (int i = 0; i < 14; i++) {
        snprintf(names[i], sizeof(names[i]), "f%d", i);
        many[i] = (struct item){names[i], AE_IFREG, 0, NULL, 0};
    }
    CHECK(extract(many, false, NULL, NULL, &err) < 0);
    CHECK_EQ(err.kind, DBX_LIMIT);
    static const struct item deep[] = {{"1/2/3/4/5/6/7/8/9/a/b/c/d", AE_IFREG, 0, NULL, 0}, {NULL}};
    CHECK(extract(deep, false, NULL, NULL, &err) < 0);
    CHECK_EQ(err.kind, DBX_LIMIT);
    static const struct item bomb[] = {
        {"a", AE_IFREG, 0, NULL, 4000}, {"b", AE_IFREG, 0, NULL, 3000}, {NULL}};
    CHECK(extract(bomb, true, NULL, NULL, &err) < 0); /* 7000 bytes out of some hundred */
    CHECK_EQ(err.kind, DBX_LIMIT);
}

static void test_truncated(void)
{
    static const struct item items[] = {{"a", AE_IFREG, 0, NULL, 1000}, {NULL}};
    struct layer_result res;
    for (off_t len = 0; len < 1536 + 1000; len += 97) {
        struct dbx_err err = {0};
        int in = make(items, false);
        CHECK_EQ(ftruncate(in, len), 0);
        int r = layer_extract(in, -1, -1, &limits, &res, &err);
        CHECK(r < 0 || len == 0 || len >= 1512);
        dbx_close(in);
    }
}

static void test_good(void)
{
    static const struct item items[] = {
        {"./bin/x", AE_IFLNK, 0, ".././lib/m.py", 0}, {"lib/m.py", AE_IFREG, 0666, NULL, 100},
        {"lib/run", AE_IFREG, 0700, NULL, 3},         {"lib/", AE_IFDIR, 0555, NULL, 0},
        {"lib/same", AE_IFREG, 0, "=./lib/m.py", 0},  {NULL}};
    struct layer_result res;
    struct dbx_err err;
    struct stat st;
    int root = -1;
    for (int zstd = 0; zstd < 2; zstd++) {
        CHECK_EQ(extract(items, zstd, NULL, &res, &err), 0);
        CHECK_STR(err.msg, "");
        CHECK_EQ(res.entries, 6);
        CHECK_EQ(res.bytes, 103);
    }
    /* packed anew, and unpacked from that, it is the same */
    int in = make(items, false), out = memfd_create("out", MFD_CLOEXEC);
    uint8_t digest[DBX_SHA256_LEN];
    CHECK_EQ(layer_extract(in, -1, out, &limits, &res, &err), 0);
    CHECK_EQ((uint64_t)lseek(out, 0, SEEK_END), res.out_bytes);
    memcpy(digest, res.out, sizeof(digest));
    CHECK_EQ(lseek(out, 0, SEEK_SET), 0);
    char folder[] = "/tmp/test-layer.XXXXXX";
    CHECK(mkdtemp(folder));
    root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQ(layer_extract(out, root, -1, &limits, &res, &err), 0);
    CHECK_EQ(memcmp(digest, res.in, sizeof(digest)), 0);
    CHECK_EQ(fstatat(root, "bin/x", &st, 0), 0);
    CHECK_EQ(st.st_size, 100);
    CHECK_EQ(st.st_mode, S_IFREG | 0644);
    CHECK_EQ(st.st_nlink, 2);
    CHECK_EQ(st.st_mtime, 1000000000);
    CHECK_EQ(fstatat(root, "lib/run", &st, 0), 0);
    CHECK_EQ(st.st_mode, S_IFREG | 0755);
    CHECK_EQ(fstatat(root, "lib", &st, 0), 0);
    CHECK_EQ(st.st_mode, S_IFDIR | 0755);
    dbx_close(root);
    dbx_close(in);
    dbx_close(out);
    CHECK_EQ(dbx_fs_remove_tree(folder, NULL), 0);
}

int main(void)
{
    (void)umask(0);
    test_refused();
    test_bounds();
    test_truncated();
    test_good();
    return check_result();
}

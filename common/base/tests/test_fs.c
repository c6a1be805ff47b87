/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "tests/unit/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char root[4096];

/* "root/name"; good until the fourth call after. */
static const char *in_root(const char *name)
{
    static char paths[4][5000];
    static int at;
    char *p = paths[at++ % 4];
    snprintf(p, sizeof(paths[0]), "%s/%s", root, name);
    return p;
}

static int count_entries(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n - 2;
}

static void test_read_write(void)
{
    struct dbx_err err;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf;
    struct stat st;
    mode_t old = umask(077);
    CHECK_EQ(dbx_fs_write_atomic(in_root("f"), "hello", 5, 0644, &err), 0);
    umask(old);
    CHECK_EQ(stat(in_root("f"), &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0644);
    CHECK_EQ(dbx_fs_read(in_root("f"), 5, &buf, &err), 0);
    CHECK_STR(dbx_buf_cstr(&buf), "hello");
    dbx_buf_done(&buf);
    CHECK_EQ(dbx_fs_read(in_root("f"), 4, &buf, &err), -E2BIG);
    CHECK_EQ(err.kind, DBX_LIMIT);
    CHECK(buf.data == NULL);
    CHECK_EQ(dbx_fs_write_atomic(in_root("f"), "", 0, 0600, &err), 0);
    CHECK_EQ(dbx_fs_read(in_root("f"), 0, &buf, &err), 0);
    CHECK_EQ(buf.len, 0);
    dbx_buf_done(&buf);
    CHECK_EQ(dbx_fs_read(in_root("none"), 4, &buf, &err), -ENOENT);
    CHECK_EQ(err.kind, DBX_NOT_FOUND);
    CHECK_EQ(dbx_fs_read(root, 4, &buf, &err), -EISDIR);
    CHECK_EQ(dbx_fs_write_atomic(in_root("no/f"), "x", 1, 0600, &err), -ENOENT);
    CHECK_EQ(mkdir(in_root("d"), 0700), 0);
    CHECK_EQ(dbx_fs_write_atomic(in_root("d"), "x", 1, 0600, &err), -EISDIR);
    CHECK_EQ(count_entries(root), 2); /* no temporary file stayed */
}

static void test_mkdirs(void)
{
    struct dbx_err err;
    struct stat st;
    CHECK_EQ(dbx_fs_mkdirs(in_root("m//a/b/"), 0750, &err), 0);
    CHECK_EQ(dbx_fs_mkdirs(in_root("m/a/b"), 0750, &err), 0);
    CHECK(stat(in_root("m/a/b"), &st) == 0 && S_ISDIR(st.st_mode));
    CHECK_EQ(dbx_fs_mkdirs("/", 0750, &err), 0);
    CHECK_EQ(dbx_fs_mkdirs("", 0750, &err), 0);
    CHECK_EQ(dbx_fs_write_atomic(in_root("m/f"), "", 0, 0600, &err), 0);
    CHECK_EQ(dbx_fs_mkdirs(in_root("m/f/g"), 0750, &err), -EEXIST);
}

static void test_beneath(void)
{
    CHECK_EQ(symlink("..", in_root("m/up")), 0);
    CHECK_EQ(symlink("a", in_root("m/in")), 0);
    static const struct {
        const char *path;
        int r;
    } rows[] = {{"a/b", 0},       {"f", 0},         {"none", -ENOENT},
                {"../f", -EXDEV}, {"/etc", -EXDEV}, {"a/../../f", -EXDEV},
                {"up/f", -ELOOP}, {"in/b", -ELOOP}, {"up", -ELOOP}};
    DBX_CLEANUP(dbx_closep) int dir = open(in_root("m"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        int fd = dbx_fs_open_beneath(dir, rows[i].path, O_RDONLY, 0);
        CHECK_EQ(fd < 0 ? fd : 0, rows[i].r);
        if (fd >= 0)
            CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        dbx_close(fd);
    }
    int fd = dbx_fs_open_beneath(dir, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    dbx_close(fd);
}

static int make_files(int dir, int n)
{
    char name[32];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "file%d", i);
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);
        if (fd < 0)
            return -errno;
        dbx_close(fd);
    }
    return 0;
}

/* Far deeper than PATH_MAX and than there are descriptors. */
static void make_deep(const char *path, int depth)
{
    CHECK_EQ(mkdir(path, 0700), 0);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < depth; i++) {
        int r = mkdirat(dir, "a-folder", 0700);
        int next = openat(dir, "a-folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (i % 100 == 0)
            r |= make_files(dir, 3);
        if (r < 0 || next < 0) {
            CHECK_EQ(errno, 0);
            break;
        }
        dbx_close(dir);
        dir = next;
    }
    dbx_close(dir);
}

static void test_remove(void)
{
    struct dbx_err err;
    struct stat st;
    CHECK_EQ(dbx_fs_remove_tree(in_root("none"), &err), 0);
    CHECK_EQ(dbx_fs_remove_tree(in_root("none/at/all"), &err), 0);
    CHECK_EQ(dbx_fs_remove_tree(in_root("f"), &err), 0);
    CHECK_EQ(dbx_fs_mkdirs(in_root("keep/this"), 0700, &err), 0);
    CHECK_EQ(dbx_fs_mkdirs(in_root("t/a/b/c"), 0700, &err), 0);
    CHECK_EQ(dbx_fs_mkdirs(in_root("t/empty"), 0700, &err), 0);
    CHECK_EQ(symlink("../../keep", in_root("t/a/link")), 0);
    CHECK_EQ(symlink("../keep", in_root("t/link")), 0);
    for (const char *const *p = (const char *const[]){"t", "t/a", "t/a/b", "t/a/b/c", NULL}; *p;
         p++) {
        DBX_CLEANUP(dbx_closep) int dir = open(in_root(*p), O_RDONLY | O_CLOEXEC);
        CHECK_EQ(make_files(dir, 300), 0);
    }
    CHECK_EQ(chmod(in_root("t/a/b"), 0), 0);
    CHECK_EQ(chmod(in_root("t/a"), 0500), 0);
    CHECK_EQ(dbx_fs_remove_tree(in_root("t"), &err), 0);
    CHECK(lstat(in_root("t"), &st) < 0 && errno == ENOENT);
    CHECK_EQ(stat(in_root("keep/this"), &st), 0);
    CHECK_EQ(symlink("keep", in_root("link")), 0);
    CHECK_EQ(dbx_fs_remove_tree(in_root("link"), &err), 0);
    CHECK_EQ(stat(in_root("keep/this"), &st), 0);
    make_deep(in_root("deep"), 3000);
    CHECK_EQ(dbx_fs_remove_tree(in_root("deep"), &err), 0);
    CHECK(lstat(in_root("deep"), &st) < 0);
}

/* As somebody without root's rights: what packages make read-only must go, too. */
static void test_remove_as_user(void)
{
    if (geteuid() != 0)
        return; /* then test_remove was this */
    CHECK_EQ(chmod(root, 0755), 0);
    CHECK_EQ(mkdir(in_root("user"), 0700), 0);
    CHECK_EQ(chown(in_root("user"), 65534, 65534), 0);
    CHECK_EQ(seteuid(65534), 0);
    struct dbx_err err = {0};
    CHECK_EQ(dbx_fs_mkdirs(in_root("user/a/b/c/d"), 0700, &err), 0);
    CHECK_EQ(chmod(in_root("user/a/b/c"), 0), 0);
    CHECK_EQ(chmod(in_root("user/a/b"), 0500), 0);
    CHECK_EQ(chmod(in_root("user/a"), 0), 0);
    CHECK_EQ(dbx_fs_remove_tree(in_root("user/a"), &err), 0);
    CHECK_STR(err.msg, "");
    CHECK_EQ(count_entries(in_root("user")), 0);
    CHECK_EQ(seteuid(0), 0);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/dbx-test-fs.XXXXXX", base ? base : P_tmpdir);
    if (!mkdtemp(root)) {
        perror("mkdtemp");
        return 1;
    }
    test_read_write();
    test_mkdirs();
    test_beneath();
    test_remove();
    test_remove_as_user();
    CHECK_EQ(dbx_fs_remove_tree(root, NULL), 0);
    return check_result();
}

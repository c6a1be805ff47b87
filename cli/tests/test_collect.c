/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/collect.h"
#include "common/base/fs.h"
#include "tests/unit/check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/test-collect-XXXXXX";
static unsigned skips;

static char *at(const char *path)
{
    static char full[512];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    return full;
}

static void put(const char *path, size_t size)
{
    struct dbx_err err = {0};
    char *full = dbx_strdup(at(path)), *slash = strrchr(full, '/');
    *slash = '\0';
    CHECK_EQ(dbx_fs_mkdirs(full, 0755, &err), 0);
    *slash = '/';
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    close(fd);
    free(full);
}

static void on_skipped(const char *path, const char *why, void *user)
{
    (void)user;
    CHECK(path[0] && why[0]);
    skips++;
}

static int collect(const char *path, struct cli_files *files, bool *folder)
{
    struct dbx_err err = {0};
    skips = 0;
    int r = cli_collect(path, on_skipped, NULL, files, folder, &err);
    CHECK((r < 0) == (err.msg[0] != '\0'));
    return r;
}

static void test_folder(void)
{
    static const char *const expected[] = {".env", "b/c/d.txt", "main.py", "target.py"};
    struct cli_files files;
    bool folder = false;
    put("p/main.py", 10);
    put("p/b/c/d.txt", 0);
    put("p/.env", 3);
    put("p/target.py", 1);
    put("p/.git/config", 5);
    put("p/.venv/x", 5);
    put("p/b/node_modules/x/y.js", 5);
    put("p/target/debug/z", 5);
    put("p/b/__pycache__/m.pyc", 5);
    CHECK_EQ(symlink("/etc/passwd", at("p/link")), 0);
    CHECK_EQ(mkfifo(at("p/pipe"), 0600), 0);
    CHECK_EQ(collect(at("p"), &files, &folder), 0);
    CHECK(folder);
    CHECK_EQ(skips, 7);
    CHECK_EQ(files.n, 4);
    CHECK_EQ(files.bytes, 14);
    for (size_t i = 0; i < files.n && i < 4; i++)
        CHECK_STR(files.v[i].path, expected[i]);
    CHECK(cli_files_find(&files, "main.py") && cli_files_find(&files, "main.py")->size == 10);
    CHECK(!cli_files_find(&files, "link"));
    cli_files_done(&files);
}

static void test_file(void)
{
    struct cli_files files;
    bool folder = true;
    put("one/x.py", 100000);
    CHECK_EQ(collect(at("one/x.py"), &files, &folder), 0);
    CHECK(!folder && files.n == 1 && files.v[0].size == 100000);
    CHECK_STR(files.v[0].path, "x.py");
    cli_files_done(&files);
    CHECK(collect(at("none"), &files, &folder) < 0);
    CHECK(collect("/dev/null", &files, &folder) < 0);
    CHECK_EQ(mkdir(at("empty"), 0755), 0);
    CHECK(collect(at("empty"), &files, &folder) < 0);
}

static void test_bounds(void)
{
    struct cli_files files;
    bool folder;
    char name[32];
    put("big/a", CLI_MAX_BYTES - 1);
    put("big/b", 1);
    CHECK_EQ(collect(at("big"), &files, &folder), 0);
    CHECK_EQ(files.bytes, CLI_MAX_BYTES);
    cli_files_done(&files);
    put("big/c", 1);
    CHECK(collect(at("big"), &files, &folder) < 0);
    for (int i = 0; i < CLI_MAX_FILES; i++) {
        snprintf(name, sizeof(name), "many/%d", i);
        put(name, 1);
    }
    CHECK_EQ(collect(at("many"), &files, &folder), 0);
    CHECK_EQ(files.n, CLI_MAX_FILES);
    cli_files_done(&files);
    put("many/more", 1);
    CHECK(collect(at("many"), &files, &folder) < 0);
    put("bad/a\nb", 1);
    CHECK(collect(at("bad"), &files, &folder) < 0);
}

int main(void)
{
    struct dbx_err err = {0};
    CHECK(mkdtemp(root));
    test_folder();
    test_file();
    test_bounds();
    CHECK_EQ(dbx_fs_remove_tree(root, &err), 0);
    return check_result();
}

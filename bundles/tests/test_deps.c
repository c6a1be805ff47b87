/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/deps.h"

#include "common/base/str.h"
#include "common/proto/files.h"
#include "tests/unit/check.h"

static int check(enum bnd_lock_kind kind, const char *lock, const char *manifest, bool *pinned)
{
    struct dbx_buf l = {.data = (uint8_t *)(uintptr_t)lock, .len = strlen(lock)}, m;
    struct dbx_err err = {0};
    dbx_buf_init(&m, BND_MAX_LOCK);
    dbx_buf_str(&m, manifest);
    int r = bnd__lock_check(kind, &l, &m, pinned, &err);
    dbx_buf_done(&m);
    return r;
}

static void test_pip(void)
{
    static const char *const bad[] = {"",
                                      "# nothing\n",
                                      "-r other.txt",
                                      "-e .",
                                      ".",
                                      "./x",
                                      "../x.whl",
                                      "/x",
                                      "--index-url https://x/",
                                      "flask --index-url=https://x/",
                                      "flask --config-settings=x --hash=y",
                                      "a @ file:///x",
                                      "https://x/a.whl",
                                      "git+ssh://x",
                                      "--hash=x -r y\n-c x"};
    bool pinned = false;
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        if (check(BND_LOCK_PIP, bad[i], "", &pinned) == 0)
            CHECK_STR(bad[i], "refused");
    CHECK_EQ(check(BND_LOCK_PIP, "Flask[async] == 3.0.1\r\nnumpy==1.2 ; x < '3'\n", "", &pinned),
             0);
    CHECK(pinned);
    CHECK_EQ(check(BND_LOCK_PIP, "a==1.0 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n", "",
                   &pinned),
             0);
    CHECK(pinned);
    CHECK_EQ(check(BND_LOCK_PIP, "flask  # web\n", "", &pinned), 0);
    CHECK(!pinned);
    CHECK_EQ(check(BND_LOCK_PIP, "flask==3.*\n", "", &pinned), 0);
    CHECK(!pinned);
}

#define LOCK(x) "{\"packages\":{\"\":{},\"node_modules/a\":{\"version\":\"1.0.0\"" x "}}}"

static void test_others(void)
{
    bool p;
    CHECK_EQ(check(BND_LOCK_NPM, LOCK(",\"resolved\":\"https://r/a.tgz\""), "{}", &p), 0);
    CHECK(check(BND_LOCK_NPM, LOCK(""), "{\"workspaces\":[]}", &p) < 0);
    CHECK(check(BND_LOCK_NPM, LOCK(""), "[]", &p) < 0);
    CHECK(check(BND_LOCK_NPM, LOCK(",\"link\":true"), "{}", &p) < 0);
    CHECK(check(BND_LOCK_NPM, LOCK(",\"resolved\":\"file:../x\""), "{}", &p) < 0);
    CHECK(check(BND_LOCK_NPM, LOCK(",\"resolved\":\"git+ssh://x\""), "{}", &p) < 0);
    CHECK(check(BND_LOCK_NPM, "{\"packages\":{\"\":{},\"../b\":{}}}", "{}", &p) < 0);
    CHECK(check(BND_LOCK_NPM, "{\"packages\":{\"\":{}}}", "{}", &p) < 0);
    CHECK(check(BND_LOCK_NPM, "no", "{}", &p) < 0);
    CHECK_EQ(check(BND_LOCK_GO, "a v1 h1:x\n", "module x\nrequire a v1\n", &p), 0);
    CHECK(check(BND_LOCK_GO, "a v1 h1:x\n", "module x\nreplace a => ../b\n", &p) < 0);
    CHECK(check(BND_LOCK_GO, "", "module x\n", &p) < 0);
    CHECK_EQ(check(BND_LOCK_CARGO, "source = \"registry+https://x\"\n",
                   "[dependencies]\nserde = \"1\"\n", &p),
             0);
    CHECK(check(BND_LOCK_CARGO, "source = \"registry+https://x\"\n", "a = { path = \"../b\" }\n",
                &p) < 0);
    CHECK(check(BND_LOCK_CARGO, "source = \"registry+https://x\"\n", "[workspace]\n", &p) < 0);
    CHECK(check(BND_LOCK_CARGO, "\n", "[dependencies]\n", &p) < 0);
}

#define PNPM                                                                                       \
    "lockfileVersion: '9.0'\nnoFile: 1\nexcludeFromLockfile: false\npackages:\n  a@1.0.0:\n    "   \
    "resolution: {integrity: sha512-x}\n"
#define UV "[[package]]\nname = \"a\"\nsource = { registry = \"https://r/simple\" }\n"

static void test_pnpm_and_uv(void)
{
    bool p;
    CHECK_EQ(check(BND_LOCK_PNPM, PNPM "    deprecated: see https://x\n", "{}", &p), 0);
    CHECK(check(BND_LOCK_PNPM, PNPM "  b:\n    version: link:../b\n", "{}", &p) < 0);
    CHECK(check(BND_LOCK_PNPM, PNPM "    resolution: {tarball: https://x}\n", "{}", &p) < 0);
    CHECK(check(BND_LOCK_PNPM, PNPM "    resolution: {directory: ../b, type: directory}\n file:b\n",
                "{}", &p) < 0);
    CHECK(check(BND_LOCK_PNPM, PNPM, "{\"pnpm\":{\"overrides\":{}}}", &p) < 0);
    CHECK(check(BND_LOCK_PNPM, "lockfileVersion: '9.0'\n", "{}", &p) < 0);
    CHECK_EQ(check(BND_LOCK_UV, UV "source = { virtual = \".\" }\n", "[project]\n", &p), 0);
    CHECK(check(BND_LOCK_UV, UV "source = { virtual = \"../b\" }\n", "[project]\n", &p) < 0);
    CHECK(check(BND_LOCK_UV, UV "source = { git = \"https://x\" }\n", "[project]\n", &p) < 0);
    CHECK(check(BND_LOCK_UV, UV "source = { registry = \"../r\" }\n", "[project]\n", &p) < 0);
    CHECK(check(BND_LOCK_UV, UV, "[tool.uv.sources]\n", &p) < 0);
    CHECK(check(BND_LOCK_UV, "version = 1\n", "[project]\n", &p) < 0);
}

static int find(const char *lock, const char *image, int64_t day, struct bnd_deps *ret)
{
    static const struct bnd_dependency what = {.kind = BND_LOCK_PIP,
                                               .lock = "requirements.txt",
                                               .into = "/home/dev/.local",
                                               .build = "pip"};
    struct bnd_template tpl = {
        .name = "python", .digest = image, .dependencies = &what, .n_dependencies = 1};
    struct dbx_buf files;
    struct dbx_err err = {0};
    dbx_buf_init(&files, DBX_MAX_HEADER);
    CHECK_EQ(dbx_files_begin(&files), 0);
    const struct dbx_file f = {.path = "requirements.txt",
                               .path_len = 16,
                               .data = (const uint8_t *)lock,
                               .size = strlen(lock)};
    CHECK_EQ(dbx_files_add(&files, &f), 0);
    struct bnd_files_block block = {files.data, files.len};
    struct bnd_files list = bnd_files_of_block(&block);
    int r = bnd_deps_find(&tpl, &list, day, ret, &err);
    dbx_buf_done(&files);
    return r;
}

static void test_keys(void)
{
    struct bnd_deps a = {0}, b = {0};
    const struct {
        const char *lock, *image;
        int64_t day;
        bool same;
    } others[] = {{"a==1\n", "0", 1, true},  {"a==1\n", "0", 2, true}, {"a==1\n", "1", 1, false},
                  {"a==2\n", "0", 1, false}, {"a\n", "0", 1, false},   {"a==1\n\n", "0", 1, false}};
    CHECK_EQ(find("a==1\n", "0", 1, &a), 1);
    CHECK(dbx_files_check(a.files.data, a.files.len, NULL) == 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(others); i++) {
        CHECK_EQ(find(others[i].lock, others[i].image, others[i].day, &b), 1);
        CHECK_EQ(dbx_streq(a.key, b.key), others[i].same);
        bnd_deps_done(&b);
    }
    bnd_deps_done(&a);
    CHECK_EQ(find("a\n", "0", 1, &a), 1);
    CHECK_EQ(find("a\n", "0", 2, &b), 1);
    CHECK(!dbx_streq(a.key, b.key)); /* another day */
    bnd_deps_done(&a);
    bnd_deps_done(&b);
    CHECK_EQ(find("-r x\n", "0", 1, &a), 0);
}

int main(void)
{
    test_pip();
    test_others();
    test_pnpm_and_uv();
    test_keys();
    return check_result();
}

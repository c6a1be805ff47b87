/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/bundles.h"
#include "common/proto/files.h"
#include "tests/unit/check.h"

#include <stdlib.h>

static struct bnd_store *store;

struct file {
    const char *path, *data;
};

static void joined(char *const *argv, struct dbx_buf *out)
{
    dbx_buf_init(out, 4096);
    (void)dbx_buf_str(out, "");
    for (; argv && *argv; argv++)
        (void)dbx_buf_printf(out, "%s%s", out->len ? "|" : "", *argv);
}

static int plan(const char *tpl, const struct file *files, const char *shell, char *const *argv,
                struct bnd_plan *ret, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf block = {0};
    dbx_buf_init(&block, 4u << 20);
    CHECK_EQ(dbx_files_begin(&block), 0);
    for (; files->path; files++) {
        struct dbx_file f = {.mode = 0644,
                             .folder = !files->data,
                             .path = files->path,
                             .path_len = (uint16_t)strlen(files->path),
                             .data = (const uint8_t *)files->data,
                             .size = files->data ? strlen(files->data) : 0};
        CHECK_EQ(dbx_files_add(&block, &f), 0);
    }
    struct bnd_files_block b = {block.data, block.len};
    struct bnd_files source = bnd_files_of_block(&b);
    return bnd_plan(bnd_template_find(store, tpl), &source, shell, argv, ret, err);
}

static const struct {
    const char *tpl;
    struct file files[4];
    const char *shell;
    const char *compile, *run; /* words joined by '|'; run NULL: an error that says `says` */
    const char *extra;         /* path of the one extra file */
    const char *says;
} cases[] = {
    {"python", {{"main.py", "print(1)"}}, NULL, "", "python3|main.py", NULL, NULL},
    {"python", {{"other.py", ""}}, NULL, "", NULL, NULL, "no main.py"},
    {"python", {{"main.py", NULL}}, NULL, "", NULL, NULL, "no main.py"},
    {"python", {{"a/main.py", ""}}, NULL, "", NULL, NULL, "no main.py"},
    {"python",
     {{"other.py", ""}},
     "python3 other.py",
     "",
     "/bin/sh|-c|python3 other.py",
     NULL,
     NULL},
    {"python", {{NULL, NULL}}, "echo 1", "", "/bin/sh|-c|echo 1", NULL, NULL},
    {"node", {{"main.js", ""}}, NULL, "", "node|main.js", NULL, NULL},
    {"node",
     {{"main.js", ""}, {"package.json", "{\"main\":\"x.js\"}"}},
     NULL,
     "",
     "node|main.js",
     NULL,
     NULL},
    {"node",
     {{"package.json", "{\"main\":\"lib/a.js\"}"}, {"lib/a.js", ""}},
     NULL,
     "",
     "node|./lib/a.js",
     NULL,
     NULL},
    {"node",
     {{"package.json", "{\"main\":\"././lib/\"}"}, {"lib/index.js", ""}},
     NULL,
     "",
     "node|./lib",
     NULL,
     NULL},
    {"node",
     {{"package.json", "{\"main\":\"-e\"}"}, {"-e.js", ""}},
     NULL,
     "",
     "node|./-e",
     NULL,
     NULL},
    {"node", {{"package.json", "{\"main\":\"lib/a.js\"}"}}, NULL, "", NULL, NULL, "lib/a.js"},
    {"node", {{"package.json", "{\"main\":\"../a.js\"}"}}, NULL, "", NULL, NULL, "package.json"},
    {"node", {{"package.json", "{\"main\":1}"}}, NULL, "", NULL, NULL, "no main.js"},
    {"node", {{"package.json", "{\"main\":\"\"}"}}, NULL, "", NULL, NULL, "no main.js"},
    {"node", {{"package.json", "{\"main\""}}, NULL, "", NULL, NULL, "package.json: "},
    {"node", {{"package.json", "[]"}}, NULL, "", NULL, NULL, "no main.js"},
    {"go", {{"main.go", ""}}, NULL, "go|build|-o|main|.", "./main", "go.mod", NULL},
    {"go", {{"x.go", ""}, {"go.mod", ""}}, NULL, "go|build|-o|main|.", "./main", NULL, NULL},
    {"go",
     {{"x.go", ""}, {"a/go.mod", ""}},
     "./main 1",
     "go|build|-o|main|.",
     "/bin/sh|-c|./main 1",
     "go.mod",
     NULL},
    {"go", {{"a/x.go", ""}}, NULL, "", NULL, NULL, "no *.go"},
    {"go", {{"go", ""}, {".go", ""}}, "true", "", NULL, NULL, "no *.go"},
    {"rust", {{"main.rs", ""}}, NULL, "rustc|--edition=2021|main.rs|-o|main", "./main", NULL, NULL},
    {"rust", {{"src/main.rs", ""}}, NULL, "", NULL, NULL, "no Cargo.toml and no main.rs"},
    {"python", {{"main.py", ""}}, "", "", NULL, NULL, "empty"},
};

static void test_cases(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        struct bnd_plan p = {0};
        struct dbx_err err = {0};
        int rc = plan(cases[i].tpl, cases[i].files, cases[i].shell, NULL, &p, &err);
        if ((rc == 0) != (cases[i].run != NULL))
            fprintf(stderr, "case %zu: %s\n", i, err.msg);
        CHECK_EQ(rc == 0, cases[i].run != NULL);
        if (rc < 0) {
            CHECK_EQ(err.kind, DBX_INVALID);
            CHECK_STR(err.field, cases[i].shell && !*cases[i].shell ? "command" : "files");
            if (cases[i].says && !strstr(err.msg, cases[i].says))
                CHECK_STR(err.msg, cases[i].says);
            continue;
        }
        struct dbx_buf compile, run;
        joined(p.compile_argv, &compile);
        joined(p.run_argv, &run);
        CHECK_STR(dbx_buf_cstr(&compile), cases[i].compile);
        CHECK_STR(dbx_buf_cstr(&run), cases[i].run);
        CHECK_EQ(p.n_extra, cases[i].extra != NULL);
        if (p.n_extra == 1 && cases[i].extra)
            CHECK_STR(p.extra[0].path, cases[i].extra);
        dbx_buf_done(&compile);
        dbx_buf_done(&run);
        bnd_plan_done(&p);
    }
}

static void test_command_argv(void)
{
    const struct file files[] = {{"main.py", ""}, {NULL, NULL}};
    char *good[] = {"python3", "-c", "print(1)", NULL}, *none[] = {NULL}, *empty[] = {"", NULL};
    char *many[BND_MAX_ARGS + 2] = {0};
    struct bnd_plan p = {0};
    struct dbx_err err = {0};
    for (size_t i = 0; i < BND_MAX_ARGS + 1; i++)
        many[i] = "x";
    CHECK_EQ(plan("python", files, NULL, good, &p, &err), 0);
    CHECK_STR(p.run_argv[2], "print(1)");
    CHECK(p.run_argv[3] == NULL);
    bnd_plan_done(&p);
    char *const *bad[] = {none, empty, many};
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        memset(&err, 0, sizeof(err));
        CHECK(plan("python", files, NULL, bad[i], &p, &err) < 0);
        CHECK_STR(err.field, "command");
    }
    CHECK(plan("python", files, "x", good, &p, &err) < 0);
}

int main(void)
{
    struct dbx_err err = {0};
    if (bnd_store_open("/nonexistent", BND_SOURCE_DIR "/templates", &store, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    test_cases();
    test_command_argv();
    store = bnd_store_free(store);
    return check_result();
}

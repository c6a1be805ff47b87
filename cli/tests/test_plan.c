/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan.h"
#include "common/ext/json.h"
#include "tests/unit/check.h"

static const char templates[] =
    "{\"items\":[{\"name\":\"python\",\"extensions\":[\"py\"]},"
    "{\"name\":\"node\",\"extensions\":[\"js\",\"mjs\",\"cjs\"]},"
    "{\"name\":\"go\",\"extensions\":[\"go\"]},{\"name\":\"odd\",\"extensions\":[\"odd\"]}]}";

static char *const none[] = {NULL};

static void check_body(const struct cli_plan *plan, const struct cli_files *files,
                       char *const *args, const char *expected)
{
    struct dbx_buf out;
    struct dbx_err err = {0};
    dbx_buf_init(&out, 1 << 20);
    CHECK_EQ(cli_plan_body(plan, files, args, &out, &err), 0);
    CHECK_STR(dbx_buf_cstr(&out), expected);
    dbx_buf_done(&out);
}

static void test_guess(void)
{
    static const struct {
        const char *paths[3], *template;
    } cases[] = {
        {{"main.py", "main.js"}, "python"},
        {{"a.js", "main.js"}, "node"},
        {{"package.json", "main.go"}, "node"},
        {{"go.mod", "x.go"}, "go"},
        {{"main.go"}, "go"},
        {{"Cargo.toml", "src/main.rs"}, "rust"},
        {{"main.rs"}, "rust"},
        {{"src/main.py", "readme"}, NULL},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        struct cli_file v[3] = {{0}};
        struct cli_files files = {.v = v};
        while (files.n < 3 && cases[i].paths[files.n]) {
            v[files.n].path = (char *)cases[i].paths[files.n];
            files.n++;
        }
        const char *got = cli_guess(&files);
        CHECK_STR(got ? got : "none", cases[i].template ? cases[i].template : "none");
    }
}

static void test_file(void)
{
    static const struct {
        const char *path, *wanted, *template, *extension;
        bool plain;
    } cases[] = {
        {"hello.py", NULL, "python", "py", true}, {"a.b/x.y.js", NULL, "node", "js", true},
        {"x.mjs", NULL, "node", "mjs", false},    {"script", "python", "python", "py", true},
        {"x.txt", "go", "go", "go", true},        {"x.py", "node", "node", "js", true},
        {"x.py", "cobol", NULL, NULL, false},     {"x.xyz", NULL, NULL, NULL, false},
        {"a.py/x", NULL, NULL, NULL, false},      {".py", NULL, NULL, NULL, false},
        {"x.", NULL, NULL, NULL, false},
    };
    struct dbx_json_doc *doc;
    struct dbx_err err = {0};
    CHECK_EQ(dbx_json_parse(templates, strlen(templates), NULL, &doc, &err), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        struct cli_plan plan = {0};
        int r = cli_plan_file(dbx_json_root(doc), cases[i].path, cases[i].wanted, &plan, &err);
        CHECK_EQ(r == 0, cases[i].template != NULL);
        if (r < 0)
            continue;
        CHECK_STR(plan.template, cases[i].template);
        CHECK_STR(plan.extension, cases[i].extension);
        CHECK_EQ(plan.plain, cases[i].plain);
    }
    struct cli_plan plan;
    CHECK(cli_plan_file(dbx_json_root(doc), "x.xyz", NULL, &plan, &err) < 0);
    CHECK(strstr(err.msg, ".xyz") && strstr(err.msg, "python, node, go"));
    CHECK(cli_plan_file(NULL, "x.py", NULL, &plan, &err) < 0);
    dbx_json_doc_free(doc);
}

static void test_body(void)
{
    char *args[] = {"a", "b c", NULL};
    struct cli_file v[] = {{"hello.py", (uint8_t *)"print(1)\n", 9}, {"x", (uint8_t *)"\xff", 1}};
    struct cli_files one = {v, 1, 9}, both = {v, 2, 10};
    struct cli_plan plan = {"python", "py", true};
    check_body(&plan, &one, none,
               "{\"template\":\"python\",\"files\":[{\"path\":\"main.py\",\"content\":\"print(1)"
               "\\n\"}]}");
    check_body(&plan, &one, args,
               "{\"template\":\"python\",\"files\":[{\"path\":\"main.py\",\"content\":\"print(1)"
               "\\n\"}],\"command\":[\"python3\",\"main.py\",\"a\",\"b c\"]}");
    plan = (struct cli_plan){"node", "mjs", false};
    v[0].size = 0;
    check_body(&plan, &one, none,
               "{\"template\":\"node\",\"files\":[{\"path\":\"main.mjs\",\"content\":\"\"}],"
               "\"command\":[\"node\",\"main.mjs\"]}");
    plan = (struct cli_plan){"node", "", true};
    check_body(&plan, &both, args,
               "{\"template\":\"node\",\"files\":[{\"path\":\"hello.py\",\"content\":\"\"},"
               "{\"path\":\"x\",\"content_base64\":\"/w==\"}],\"command\":[\"node\",\".\",\"a\","
               "\"b c\"]}");
    plan = (struct cli_plan){"rust", "rs", true};
    check_body(&plan, &one, args,
               "{\"template\":\"rust\",\"files\":[{\"path\":\"main.rs\",\"content\":\"\"}],"
               "\"command\":[\"./main\",\"a\",\"b c\"]}");
}

static void test_refused(void)
{
    char *args[] = {"a", NULL}, *binary[] = {"\xff", NULL};
    static uint8_t big[2000];
    struct cli_file v[] = {{"main.py", big, sizeof(big)}};
    struct cli_files files = {v, 1, sizeof(big)};
    struct cli_plan odd = {"odd", "odd", true}, python = {"python", "py", true};
    struct dbx_err err = {0};
    struct dbx_buf out;
    dbx_buf_init(&out, 1000);
    CHECK(cli_plan_body(&odd, &files, args, &out, &err) < 0);
    CHECK(cli_plan_body(&python, &files, none, &out, &err) < 0); /* larger than out may be */
    files.n = 0;
    CHECK(cli_plan_body(&python, &files, binary, &out, &err) < 0);
    CHECK_EQ(out.len, 0);
    dbx_buf_done(&out);
    struct cli_plan plan;
    CHECK(cli_plan_folder(&files, "folder", NULL, &plan, &err) < 0);
    CHECK_EQ(cli_plan_folder(&files, "folder", "go", &plan, &err), 0);
    CHECK_STR(plan.template, "go");
}

int main(void)
{
    test_guess();
    test_file();
    test_body();
    test_refused();
    return check_result();
}

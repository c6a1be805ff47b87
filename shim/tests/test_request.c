/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/request.h"

#include "common/ext/json.h"
#include "common/proto/files.h"
#include "tests/unit/check.h"

#define P "018f0000-0000-7000-8000-000000000001"
#define S "018f0000-0000-7000-8000-000000000002"
#define HEAD                                                                                       \
    "{\"process_id\":\"" P "\",\"sandbox_id\":\"" S "\",\"attempt\":2,\"epoch\":7,"                \
    "\"trace\":\"tr\",\"accepted_us\":5,\"files_len\":%zu,\"request\":%s}"

static struct dbx_buf block;

static int decode(const char *request, size_t files_len, struct shim_request **ret,
                  struct dbx_err *err)
{
    char text[8192];
    struct dbx_json_doc *doc = NULL;
    *err = (struct dbx_err){0};
    snprintf(text, sizeof(text), HEAD, files_len, request);
    CHECK_EQ(dbx_json_parse(text, strlen(text), NULL, &doc, err), 0);
    int r = shim_request_decode(dbx_json_root(doc), block.data, block.len, ret, err);
    dbx_json_doc_free(doc);
    return r;
}

static void check_refused(const char *request, const char *field)
{
    struct shim_request *rq = NULL;
    struct dbx_err err;
    CHECK(decode(request, 0, &rq, &err) < 0);
    CHECK_STR(err.field, field);
    CHECK(rq == NULL);
}

int main(void)
{
    struct shim_request *rq = NULL;
    struct dbx_err err;
    dbx_buf_init(&block, 4096);
    struct dbx_file f = {
        .mode = 0644, .path = "main.py", .path_len = 7, .data = (uint8_t *)"x", .size = 1};
    CHECK_EQ(dbx_files_begin(&block), 0);
    CHECK_EQ(dbx_files_add(&block, &f), 0);
    size_t files_len = block.len;
    CHECK_EQ(dbx_buf_append(&block, "in", 2), 0);

    CHECK_EQ(decode("{\"template\":\"python\",\"command\":[\"a\",\"\"],\"env\":{\"A\":\"b=c\"},"
                    "\"stdin_open\":true,\"limits\":{\"cpu_ms\":7}}",
                    files_len, &rq, &err),
             0);
    CHECK_STR(rq->template, "python");
    CHECK_STR(rq->command_argv[0], "a");
    CHECK_STR(rq->command_argv[1], "");
    CHECK(rq->command_argv[2] == NULL && rq->command_shell == NULL);
    CHECK_STR(rq->env[0], "A=b=c");
    CHECK_EQ(rq->limits.cpu_ms, 7);
    CHECK_EQ(rq->limits.wall_ms, 30000);
    CHECK_EQ(rq->compile_limits.memory_mb, 1024);
    CHECK_EQ(rq->attempt, 2);
    CHECK_EQ(rq->epoch, 7);
    CHECK_EQ(rq->files.len, files_len);
    CHECK_EQ(rq->input.len, 2);
    CHECK(rq->stdin_open);
    CHECK_STR(rq->process_text, P);
    shim_request_free(rq);
    rq = NULL;

    CHECK(decode("{\"template\":\"python\"}", block.len + 1, &rq, &err) < 0);
    CHECK_STR(err.field, "files_len");
    CHECK(decode("{\"template\":\"python\"}", files_len - 1, &rq, &err) < 0);
    CHECK(decode("{\"template\":\"python\"}", files_len + 1, &rq, &err) < 0);
    check_refused("{}", "request.template");
    check_refused("{\"template\":\"p\",\"what\":1}", "request.what");
    check_refused("{\"template\":\"p\",\"env\":{\"1A\":\"\"}}", "request.env");
    check_refused("{\"template\":\"p\",\"env\":{\"A\":1}}", "request.env");
    check_refused("{\"template\":\"p\",\"env\":{\"A\":\"x\\u0000\"}}", "request.env");
    check_refused("{\"template\":\"p\",\"command\":[]}", "request.command");
    check_refused("{\"template\":\"p\",\"command\":\"a\\u0000b\"}", "request.command");
    check_refused("{\"template\":\"p\",\"command\":7}", "request.command");
    check_refused("{\"template\":\"p\",\"limits\":{\"cpu_ms\":0}}", "request.limits.cpu_ms");
    check_refused("{\"template\":\"p\",\"compile_limits\":{\"x\":0}}", "request.compile_limits.x");

#define WORKSPACE "\"workspace\":{\"size\":\"cpu-small\",\"revision\":4,\"idle_ms\":5,\"max_ms\":6"
    CHECK_EQ(decode("{\"template\":\"p\",\"command\":\"x\",\"limits\":{\"wall_ms\":9}," WORKSPACE
                    ",\"cwd\":\"a/b\"}}",
                    files_len, &rq, &err),
             0);
    CHECK(rq->workspace && rq->revision == 4 && rq->idle_ms == 5 && rq->max_ms == 6);
    CHECK_STR(rq->cwd, "a/b");
    CHECK(rq->limits.cpu_ms == 0 && rq->limits.wall_ms == 9 && rq->limits.memory_mb == 2048);
    shim_request_free(rq);
    rq = NULL;
    check_refused("{\"template\":\"p\"," WORKSPACE "}}", "request.command");
    check_refused("{\"template\":\"p\",\"command\":\"x\"," WORKSPACE ",\"cwd\":\"../a\"}}",
                  "request.workspace.cwd");
    check_refused("{\"template\":\"p\",\"command\":\"x\",\"workspace\":{}}",
                  "request.workspace.size");

    CHECK_EQ(decode("{\"template\":\"p\"},\"batch\":{\"id\":\"" S "\",\"shares\":true}", files_len,
                    &rq, &err),
             0);
    CHECK(rq->in_batch && rq->shares && dbx_id_equal(&rq->batch, &rq->sandbox));
    shim_request_free(rq);
    rq = NULL;
    check_refused("{\"template\":\"p\"},\"batch\":{\"shares\":true}", "batch.id");
    check_refused("{\"template\":\"p\"},\"batch\":7", "batch.id");
    dbx_buf_done(&block);
    return check_result();
}

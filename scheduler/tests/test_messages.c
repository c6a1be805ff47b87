/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/messages.h"
#include "tests/unit/check.h"

#define ID "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
#define NODE "\"node_id\":\"n1\",\"url\":\"http://h:1\",\"version\":\"1\","
#define CAP "\"capacity\":{\"sandboxes\":4},\"templates\":{\"python\":{\"warm\":2}}"

static struct dbx_json_doc *parse(const char *json)
{
    struct dbx_json_doc *doc = NULL;
    CHECK_EQ(dbx_json_parse(json, strlen(json), NULL, &doc, NULL), 0);
    return doc;
}

static void test_hello(void)
{
    static const char *const bad[] = {
        "{}",
        "{\"node_id\":\"a b\",\"url\":\"u\",\"version\":\"1\"," CAP ",\"processes\":[]}",
        "{\"node_id\":\"n\",\"url\":\"\",\"version\":\"1\"," CAP ",\"processes\":[]}",
        "{\"node_id\":\"n\",\"url\":\"u\\u0001\",\"version\":\"1\"," CAP ",\"processes\":[]}",
        "{" NODE CAP "}",
        "{" NODE CAP ",\"processes\":[{\"process_id\":\"x\",\"attempt\":1}]}",
        "{" NODE "\"capacity\":{\"sandboxes\":-1},\"templates\":{},\"processes\":[]}",
        "{" NODE "\"capacity\":{\"sandboxes\":1},\"templates\":{\"a/b\":{}},\"processes\":[]}",
    };
    struct dbx_err err;
    struct sched_hello h;
    DBX_CLEANUP(dbx_json_doc_freep)
    struct dbx_json_doc *doc = parse("{" NODE CAP ",\"processes\":[{\"process_id\":\"" ID
                                     "\",\"attempt\":2,\"state\":\"running\"}]}");

    CHECK_EQ(sched_hello_decode(dbx_json_root(doc), &h, NULL), 0);
    CHECK_STR(h.node_id, "n1");
    CHECK_EQ(h.cap.sandboxes, 4);
    CHECK_EQ(h.cap.templates[0].warm, 2);
    CHECK(h.ninventory == 1 && h.inventory[0].attempt == 2 && h.inventory[0].running);
    sched_hello_done(&h);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *b = parse(bad[i]);
        CHECK(sched_hello_decode(dbx_json_root(b), &h, &err) < 0);
    }
}

static void test_place(void)
{
    struct dbx_err err;
    struct sched_proc *sp = NULL;
    DBX_CLEANUP(dbx_json_doc_freep)
    struct dbx_json_doc *doc =
        parse("{\"process_id\":\"" ID "\",\"sandbox_id\":\"" ID "\",\"owner\":\"" ID
              "\",\"request\":{\"template\":\"python\",\"retry\":\"safe\"},\"files_len\":2}");

    CHECK_EQ(sched_place_decode(dbx_json_root(doc), (const uint8_t *)"abc", 3, true, &sp, NULL), 0);
    CHECK_STR(sp->template, "python");
    CHECK_STR(sp->request, "{\"template\":\"python\",\"retry\":\"safe\"}");
    CHECK(sp->retry_safe && sp->files_len == 2 && sp->blob_len == 3);
    sched_proc_free(sp);
    CHECK(sched_place_decode(dbx_json_root(doc), (const uint8_t *)"a", 1, true, &sp, &err) < 0);
    CHECK_STR(err.field, "files_len");
}

static void test_report(void)
{
    struct sched_report rp;
    DBX_CLEANUP(dbx_json_doc_freep)
    struct dbx_json_doc *doc = parse(
        "{\"process_id\":\"" ID "\",\"attempt\":1,\"verdict\":\"OK\",\"outcome\":{\"run\":null}}");
    DBX_CLEANUP(dbx_json_doc_freep)
    struct dbx_json_doc *odd =
        parse("{\"process_id\":\"" ID "\",\"attempt\":1,\"verdict\":\"FINE\",\"outcome\":3}");

    CHECK_EQ(sched_report_decode(dbx_json_root(doc), true, &rp, NULL), 0);
    CHECK_EQ(rp.verdict, DBX_V_OK);
    CHECK_STR(rp.outcome, "{\"run\":null}");
    sched_report_done(&rp);
    CHECK_EQ(sched_report_decode(dbx_json_root(odd), true, &rp, NULL), 0);
    CHECK(rp.verdict == DBX_V_INTERNAL && rp.outcome == NULL);
}

int main(void)
{
    test_hello();
    test_place();
    test_report();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/bundles.h"
#include "tests/unit/check.h"

#include <errno.h>

#define HEAD "\"name\":\"x\",\"title\":\"X\",\"order\":1,\"warm\":2,\"packages\":[\"a\"]"
#define ENTRY "{\"file\":\"main.x\",\"run\":[\"x\",\"main.x\"]}"

#define PARKED(file, env, more)                                                                    \
    "{\"run\":[\"x\",\"" file "\"],\"env\":[\"" env "\"],\"unless\":[\"A_\"]" more "}"

static const struct {
    const char *json, *field; /* field NULL: it is good */
} cases[] = {
    {"{" HEAD ",\"entries\":[" ENTRY "]}", NULL},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"env\":{\"A_1\":\"\"},\"extensions\":[\"x\"]}", NULL},
    {"{" HEAD ",\"entries\":[{\"file\":\"*.x\",\"compile\":[\"c\"],\"run\":[\"./main\"]}]}", NULL},
    {"{" HEAD ",\"entries\":[]}", "entries"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("main.x", "A=b", "") "}", NULL},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("main.x", "A=b", ",\"cwd\":\"/\"") "}",
     NULL},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("other", "A=b", "") "}", "parked.run"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("main.x", "A", "") "}", "parked.env"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("main.x", "A=b", ",\"cwd\":\"x\"") "}",
     "parked.cwd"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("main.x", "A=b", ",\"fork\":true") "}",
     NULL},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":" PARKED("main.x", "A=b", ",\"fork\":1") "}",
     "parked.fork"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"parked\":{\"run\":[\"x\"]}}", "parked.env"},
    {"{" HEAD "}", "entries"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"more\":1}", "more"},
    {"{" HEAD ",\"entries\":[1]}", "entries"},
    {"{" HEAD ",\"entries\":[{\"file\":\"../x\",\"run\":[\"x\"]}]}", "entries[].file"},
    {"{" HEAD ",\"entries\":[{\"file\":\"/x\",\"run\":[\"x\"]}]}", "entries[].file"},
    {"{" HEAD ",\"entries\":[{\"file\":\"x\",\"run\":[]}]}", "entries[].run"},
    {"{" HEAD ",\"entries\":[{\"file\":\"x\",\"run\":[\"\"]}]}", "entries[].run"},
    {"{" HEAD ",\"entries\":[{\"file\":\"x\",\"run\":[\"a\\u0000b\"]}]}", "entries[].run"},
    {"{" HEAD ",\"entries\":[" ENTRY ",{\"file\":\"y\",\"compile\":[\"c\"],\"run\":[\"x\"]}]}",
     "entries"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"env\":{\"1A\":\"\"}}", "env"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"env\":{\"A=B\":\"\"}}", "env"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"env\":{\"A\":1}}", "env"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"registry_env\":{\"A\":\"{registry}/a\"}}", NULL},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"registry_env\":{\"A B\":\"\"}}", "registry_env"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"registry_env\":[]}", "registry_env"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"stamps\":[\"/home/dev/.cache/a\"]}", NULL},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"stamps\":[\"/a\"]}", "stamps"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"stamps\":[\"a/b\"]}", "stamps"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"stamps\":[\"/a/../b\"]}", "stamps[]"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"extensions\":[\"X/\"]}", "extensions"},
    {"{" HEAD ",\"entries\":[" ENTRY "],\"supply\":[{\"path\":\"a/../b\",\"content\":\"\"}]}",
     "supply[].path"},
    {"{\"name\":\"X y\",\"title\":\"X\",\"order\":1,\"warm\":2,\"packages\":[],\"entries\":[" ENTRY
     "]}",
     "name"},
    {"{\"name\":\"x\",\"title\":\"X\",\"order\":1,\"warm\":-1,\"packages\":[],\"entries\":[" ENTRY
     "]}",
     "warm"},
    {"{\"name\":\"x\",\"title\":\"X\",\"order\":1,\"warm\":1,\"packages\":[\"a "
     "b\"],\"entries\":[" ENTRY "]}",
     "packages"},
    {"[]", ""},
    {"", ""},
    {"{", ""},
};

int main(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        struct dbx_err err = {0};
        int rc = bnd_template_check(cases[i].json, strlen(cases[i].json), &err);
        if ((rc == 0) != (cases[i].field == NULL))
            fprintf(stderr, "case %zu: %s: %s\n", i, cases[i].json, err.msg);
        CHECK_EQ(rc == 0, cases[i].field == NULL);
        if (cases[i].field)
            CHECK_STR(err.field, cases[i].field);
    }
    struct dbx_err err = {0};
    static char big[BND_MAX_TEMPLATE_FILE + 1];
    CHECK_EQ(bnd_template_check(big, sizeof(big), &err), -E2BIG);
    return check_result();
}

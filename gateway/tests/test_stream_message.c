/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_message.h"

#include <errno.h>

#include "tests/unit/check.h"

#define P "\"process_id\":\"0192aa00-0000-7000-8000-000000000001\""

static const struct {
    const char *text;
    int code;
    const char *field;
} bad[] = {
    {"", -EBADMSG, ""},
    {"{", -EBADMSG, ""},
    {"[]", -EBADMSG, ""},
    {"7", -EBADMSG, ""},
    {"{\"type\":\"ack\",\"type\":\"ack\"}", -EBADMSG, ""},
    {"{}", -EINVAL, "type"},
    {"{\"type\":7}", -EINVAL, "type"},
    {"{\"type\":\"nonsense\"}", -ENOSYS, ""},
    {"{\"type\":\"eof\"}", -EINVAL, "process_id"},
    {"{\"type\":\"eof\",\"process_id\":\"x\"}", -EINVAL, "process_id"},
    {"{\"type\":\"eof\"," P ",\"data\":\"x\"}", -EINVAL, "data"},
    {"{\"type\":\"input\"," P "}", -EINVAL, "data"},
    {"{\"type\":\"input\"," P ",\"data\":7}", -EINVAL, "data"},
    {"{\"type\":\"input\"," P ",\"data\":\"!\",\"encoding\":\"base64\"}", -EINVAL, "data"},
    {"{\"type\":\"input\"," P ",\"data\":\"\",\"encoding\":\"hex\"}", -EINVAL, "encoding"},
    {"{\"type\":\"ack\"," P ",\"bytes\":-1}", -EINVAL, "bytes"},
    {"{\"type\":\"ack\"," P ",\"bytes\":1.5}", -EINVAL, "bytes"},
    {"{\"type\":\"resize\"," P ",\"cols\":80,\"rows\":0}", -EINVAL, "rows"},
    {"{\"type\":\"resume\"," P "}", -EINVAL, "last_seen_id"},
};

static int decode(const char *text, struct gw_message *m, struct dbx_err *err)
{
    return gw_message_decode(text, strlen(text), m, err);
}

int main(void)
{
    struct gw_message m;
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        struct dbx_err err = {0};
        CHECK_EQ(decode(bad[i].text, &m, &err), bad[i].code);
        CHECK_STR(err.field, bad[i].field);
    }
    CHECK_EQ(decode("{\"type\":\"input\"," P ",\"data\":\"a\\u0000b\"}", &m, NULL), 0);
    CHECK(m.type == GW_MSG_INPUT && m.len == 3 && memcmp(m.data, "a\0b", 3) == 0);
    gw_message_done(&m);
    CHECK_EQ(
        decode("{\"type\":\"input\"," P ",\"data\":\"/w==\",\"encoding\":\"base64\"}", &m, NULL),
        0);
    CHECK(m.len == 1 && memcmp(m.data, "\xff", 1) == 0);
    gw_message_done(&m);
    CHECK_EQ(decode("{\"type\":\"resume\"," P ",\"last_seen_id\":\"r00000000\"}", &m, NULL), 0);
    CHECK_STR(m.last_seen_id, "r00000000");
    CHECK_EQ(m.process.b[15], 1);
    gw_message_done(&m);
    CHECK_EQ(decode("{\"type\":\"ack\"," P ",\"bytes\":100000}", &m, NULL), 0);
    CHECK_EQ(m.acked, 100000);
    gw_message_done(&m);
    CHECK_EQ(decode("{" P ",\"type\":\"cancel\"}", &m, NULL), 0);
    CHECK_EQ(m.type, GW_MSG_CANCEL);
    gw_message_done(&m);
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/message.h"
#include "tests/unit/check.h"

#define ME "11111111-2222-4333-8444-555555555555"
#define P "\"process_id\":\"" ME "\","

static int parse(const char *text, struct cli_msg *m)
{
    struct dbx_err err = {0};
    int r = cli_msg_parse(text, strlen(text), ME, m, &err);
    CHECK((r == 0) == (err.msg[0] == '\0'));
    return r;
}

static int type_of(const char *text)
{
    struct cli_msg m;
    if (parse(text, &m) < 0)
        return (enum cli_msg_type) - 1;
    cli_msg_done(&m);
    return (int)m.type;
}

static void test_output(void)
{
    struct cli_msg m;
    CHECK_EQ(parse("{\"type\":\"output\"," P "\"stream\":\"stdout\",\"data\":\"a\\u0000b\\n\","
                   "\"timestamp\":1,\"id\":\"1-0\"}",
                   &m),
             0);
    CHECK_EQ(m.type, CLI_MSG_OUTPUT);
    CHECK(m.len == 4 && memcmp(m.data, "a\0b\n", 4) == 0);
    CHECK(!m.is_stderr && !m.compile);
    CHECK_STR(m.id, "1-0");
    cli_msg_done(&m);
    CHECK_EQ(parse("{\"type\":\"output\"," P "\"stream\":\"stderr\",\"phase\":\"compile\","
                   "\"data\":\"/wD+\",\"encoding\":\"base64\",\"id\":\"1-1\"}",
                   &m),
             0);
    CHECK(m.len == 3 && memcmp(m.data, "\xff\0\xfe", 3) == 0);
    CHECK(m.is_stderr && m.compile);
    cli_msg_done(&m);
}

static void test_status(void)
{
    struct cli_msg m;
    CHECK_EQ(parse("{\"type\":\"status\"," P "\"status\":\"running\",\"phase\":\"run\"}", &m), 0);
    CHECK(m.type == CLI_MSG_STATUS && m.running && !m.ended && !m.compile);
    cli_msg_done(&m);
    CHECK_EQ(parse("{\"type\":\"status\"," P "\"status\":\"completed\",\"verdict\":\"SIGNAL\","
                   "\"exit_code\":null,\"signal\":\"SIGSEGV\",\"usage\":{\"cpu_ms\":1}}",
                   &m),
             0);
    CHECK(m.ended && !m.running && m.exit_code == -1);
    CHECK_STR(m.verdict, "SIGNAL");
    CHECK_STR(m.signal, "SIGSEGV");
    cli_msg_done(&m);
}

static void test_others(void)
{
    struct cli_msg m;
    CHECK_EQ(parse("{\"type\":\"gap\"," P "\"stream\":\"stderr\",\"from\":10,\"to\":20}", &m), 0);
    CHECK(m.type == CLI_MSG_GAP && m.is_stderr && m.from == 10 && m.to == 20);
    cli_msg_done(&m);
    CHECK_EQ(parse("{\"type\":\"error\",\"code\":\"input_full\"}", &m), 0);
    CHECK(m.type == CLI_MSG_ERROR);
    CHECK_STR(m.code, "input_full");
    CHECK_STR(m.message, "input_full");
    cli_msg_done(&m);
    CHECK_EQ(parse("{\"type\":\"input_taken\"," P "\"seq\":7}", &m), 0);
    CHECK(m.type == CLI_MSG_INPUT_TAKEN && m.seq == 7);
    cli_msg_done(&m);
    CHECK_EQ(parse("{\"type\":\"log\",\"status\":\"away\",\"message\":\"wait\"}", &m), 0);
    CHECK(m.type == CLI_MSG_LOG);
    CHECK_STR(m.message, "wait");
    cli_msg_done(&m);
    CHECK_EQ(parse("{\"type\":\"log\",\"status\":\"back\"}", &m), 0);
    CHECK(m.type == CLI_MSG_LOG && !m.message);
    cli_msg_done(&m);
    CHECK_EQ(type_of("{\"type\":\"resumed\"," P "\"last_seen_id\":\"1-0\"}"), CLI_MSG_OTHER);
    CHECK_EQ(type_of("{\"type\":\"of tomorrow\"}"), CLI_MSG_OTHER);
    CHECK_EQ(type_of("{\"type\":\"output\",\"process_id\":\"another\",\"stream\":7}"),
             CLI_MSG_OTHER);
}

static void test_bad(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"type\":7}",
        "{\"type\":\"output\"," P "\"stream\":\"stdout\"}",
        "{\"type\":\"output\"," P "\"stream\":\"stdlog\",\"data\":\"\"}",
        "{\"type\":\"output\"," P "\"data\":\"x\"}",
        "{\"type\":\"output\"," P "\"stream\":\"stdout\",\"data\":\"!\",\"encoding\":\"base64\"}",
        "{\"type\":\"output\"," P "\"stream\":\"stdout\",\"data\":\"x\",\"encoding\":\"rot13\"}",
        "{\"type\":\"gap\"," P "\"stream\":\"stdout\",\"from\":2,\"to\":1}",
        "{\"type\":\"gap\"," P "\"stream\":\"stdout\",\"from\":-5,\"to\":1}",
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(type_of(bad[i]), -1);
}

int main(void)
{
    test_output();
    test_status();
    test_others();
    test_bad();
    return check_result();
}

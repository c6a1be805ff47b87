/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int saved_stderr, from_log;

static void capture(void)
{
    int p[2];
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(fcntl(p[1], F_SETPIPE_SZ, 1 << 20), 1 << 20);
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    CHECK(dup2(p[1], STDERR_FILENO) >= 0);
    dbx_close(p[1]);
    from_log = p[0];
    CHECK_EQ(dbx_set_nonblock(from_log, true), 0);
}

/* What was logged since; the pipe is emptied. */
static const char *captured(void)
{
    static char text[1 << 20];
    ssize_t n = read(from_log, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void release(void)
{
    CHECK(dup2(saved_stderr, STDERR_FILENO) >= 0);
    dbx_close(saved_stderr);
    dbx_close(from_log);
}

struct row {
    const char *msg, *logfmt, *json; /* what follows the time */
};
static const struct row rows[] = {
    {"plain", "msg=\"plain\"\n", "\"msg\":\"plain\"}\n"},
    {"", "msg=\"\"\n", "\"msg\":\"\"}\n"},
    {"a \"b\" \\ \n\t\r\x1b\x7f", "msg=\"a \\\"b\\\" \\\\ \\n\\t\\r\\u001b\\u007f\"\n",
     "\"msg\":\"a \\\"b\\\" \\\\ \\n\\t\\r\\u001b\\u007f\"}\n"},
    {"\xc3\xa9\xff\xc2\x9b!", "msg=\"\xc3\xa9\\ufffd\\u009b!\"\n",
     "\"msg\":\"\xc3\xa9\\ufffd\\u009b!\"}\n"},
};
static char got[DBX_ARRAY_LEN(rows)][2][512];

static void test_lines(void)
{
    struct dbx_log_ctx node, sandbox;
    dbx_log_ctx_init(&node, NULL, "node", "n1");
    dbx_log_ctx_init(&sandbox, &node, "sandbox", "a b");
    capture();
    for (int json = 0; json < 2; json++) {
        dbx_log_init("shim", json ? "json" : "logfmt", DBX_LOG_INFO);
        for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
            dbx_log(DBX_LOG_WARN, &sandbox, "%s", rows[i].msg);
            CHECK(dbx_strcpy(got[i][json], sizeof(got[i][json]), captured()));
        }
    }
    release();
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        char want[512];
        CHECK(strncmp(got[i][0], "t=20", 4) == 0 && strlen(got[i][0]) > 26);
        snprintf(want, sizeof(want), " lvl=warn mod=shim node=n1 sandbox=\"a b\" %s",
                 rows[i].logfmt);
        CHECK_STR(got[i][0] + 26, want);
        CHECK(strncmp(got[i][1], "{\"t\":\"20", 8) == 0 && strlen(got[i][1]) > 31);
        snprintf(want, sizeof(want),
                 ",\"lvl\":\"warn\",\"mod\":\"shim\",\"node\":\"n1\",\"sandbox\":\"a b\",%s",
                 rows[i].json);
        CHECK_STR(got[i][1] + 31, want);
    }
}

static void test_level(void)
{
    capture();
    dbx_log_init("shim", "logfmt", DBX_LOG_WARN);
    errno = ENOENT;
    dbx_log(DBX_LOG_INFO, NULL, "not this");
    dbx_log(DBX_LOG_ERR, NULL, "open: %m");
    int e = errno;
    const char *text = captured();
    release();
    CHECK_EQ(e, ENOENT);
    CHECK(strstr(text, "not this") == NULL);
    CHECK(strstr(text, "lvl=err mod=shim msg=\"open: No such file or directory\"\n") != NULL);
    CHECK_EQ(dbx_log_level_parse("debug"), DBX_LOG_DEBUG);
    CHECK_EQ(dbx_log_level_parse("loud"), -EINVAL);
}

/* However much it is, the line is one, ends, and its quotes close. */
static void test_long(void)
{
    static char msg[100000];
    char ends[2][8] = {{0}};
    size_t lens[2];
    struct dbx_log_ctx chain[20];
    memset(msg, 1, sizeof(msg) - 1);
    for (size_t i = 0; i < DBX_ARRAY_LEN(chain); i++)
        dbx_log_ctx_init(&chain[i], i ? &chain[i - 1] : NULL, "key",
                         "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"");
    capture();
    for (int json = 0; json < 2; json++) {
        dbx_log_init("shim", json ? "json" : "logfmt", DBX_LOG_INFO);
        dbx_log(DBX_LOG_INFO, &chain[5], "%s", msg);
        const char *text = captured();
        lens[json] = strlen(text);
        if (lens[json] > 3)
            memcpy(ends[json], text + lens[json] - 3, 4);
    }
    for (size_t n = 0; n < 3000; n++) { /* each length once, for whatever stands at the end */
        dbx_log_write(DBX_LOG_INFO, &chain[19], NULL, "%.*s", (int)n, msg);
        (void)captured();
    }
    release();
    CHECK(lens[0] > 3000 && lens[0] <= 4096);
    CHECK(lens[1] > 3000 && lens[1] <= 4096);
    CHECK_STR(ends[0] + 1, "\"\n");
    CHECK_STR(ends[1], "\"}\n");
}

static void log_once(void)
{
    dbx_log(DBX_LOG_INFO, NULL, "again");
}

static void test_rate(void)
{
    capture();
    dbx_log_init("shim", "logfmt", DBX_LOG_INFO);
    struct dbx_log_site site = {0};
    for (int i = 0; i < 80; i++)
        dbx_log_write(DBX_LOG_INFO, NULL, &site, "line");
    char first[20000];
    snprintf(first, sizeof(first), "%s", captured());
    site.window_start_ms -= 2000; /* two seconds go by */
    dbx_log_write(DBX_LOG_INFO, NULL, &site, "line");
    char second[1000];
    snprintf(second, sizeof(second), "%s", captured());
    log_once();
    const char *other = captured();
    release();
    int lines = 0;
    for (const char *p = first; (p = strchr(p, '\n')); p++)
        lines++;
    CHECK_EQ(lines, 50);
    CHECK(strstr(first, "limited=true msg=\"line\"\n") != NULL);
    CHECK(strstr(second, "dropped=30 msg=\"line\"\n") != NULL);
    CHECK(strstr(other, "again") != NULL);
}

int main(void)
{
    test_lines();
    test_level();
    test_long();
    test_rate();
    return check_result();
}

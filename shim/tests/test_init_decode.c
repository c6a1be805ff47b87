/* SPDX-License-Identifier: Apache-2.0 */
/* Both decoders of init's protocol, on what they must refuse. */
#include "shim/init/decode.h"
#include "shim/init_client.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdio.h>

static size_t reply(uint8_t *out, uint16_t op, const void *body, size_t len)
{
    struct init_header h = {.op = op, .tag = 1, .body_len = len};
    memcpy(out, &h, sizeof(h));
    memcpy(out + sizeof(h), body, len);
    return sizeof(h) + len;
}

static int decode(uint16_t op, const void *body, size_t len, struct shim_init_msg *m)
{
    uint8_t data[INIT_MAX_REPLY];
    struct dbx_err err = {0};
    return shim_init_decode(data, reply(data, op, body, len), m, &err);
}

static void test_replies(void)
{
    struct shim_init_msg m;
    struct init_ready ready = {INIT_MAGIC, INIT_VERSION, 7, 1};
    struct init_started s = {.pid = 5};
    struct init_exited e = {.wait_status = 3 << 8, .seen = INIT_SAW_DISK_FULL};
    struct {
        struct init_done d;
        char text[4];
    } d = {.d = {.op = INIT_FILES, .error = ENOSPC, .text_len = 4}, .text = "a\n\x80z"};
    CHECK_EQ(decode(INIT_READY, &ready, sizeof(ready), &m), 0);
    ready.version++;
    CHECK_EQ(decode(INIT_READY, &ready, sizeof(ready), &m), -EPROTONOSUPPORT);
    CHECK_EQ(decode(INIT_STARTED, &s, sizeof(s), &m), 0);
    s.stage = INIT_STAGE_EXEC; /* without an error */
    CHECK_EQ(decode(INIT_STARTED, &s, sizeof(s), &m), -EBADMSG);
    s = (struct init_started){.error = ENOENT, .stage = INIT_STAGE_EXEC};
    CHECK_EQ(decode(INIT_STARTED, &s, sizeof(s), &m), 0);
    CHECK_EQ(m.started.error, ENOENT);
    CHECK_EQ(decode(INIT_STARTED, &s, sizeof(s) - 1, &m), -EBADMSG);
    CHECK_EQ(decode(INIT_EXITED, &e, sizeof(e), &m), 0);
    CHECK(m.exited.exit_code == 3 && m.exited.signal == 0 && m.exited.seen == INIT_SAW_DISK_FULL);
    e.wait_status = 11 | 0x80;
    CHECK_EQ(decode(INIT_EXITED, &e, sizeof(e), &m), 0);
    CHECK(m.exited.exit_code == -1 && m.exited.signal == 11);
    e.wait_status = 0x137f; /* stopped: not an end */
    CHECK_EQ(decode(INIT_EXITED, &e, sizeof(e), &m), -EBADMSG);
    struct init_saw w = {.key = {.phase = 2}, .seen = INIT_SAW_PROCESS_MAX};
    CHECK_EQ(decode(INIT_SAW, &w, sizeof(w), &m), 0);
    CHECK(m.saw.phase == 2 && m.saw.seen == INIT_SAW_PROCESS_MAX && !m.saw.again);
    CHECK_EQ(decode(INIT_SAW, &w, sizeof(w) - 1, &m), -EBADMSG);
    w.seen = 0;
    CHECK_EQ(decode(INIT_SAW, &w, sizeof(w), &m), -EBADMSG);
    w.seen = INIT_LEFT_OTHERS | INIT_SAW_DISK_FULL;
    CHECK_EQ(decode(INIT_SAW, &w, sizeof(w), &m), -EBADMSG);
    CHECK_EQ(decode(INIT_DONE, &d, sizeof(d.d) + 4, &m), 0);
    CHECK_STR(m.done.text, "a??z");
    d.d.text_len = 5;
    CHECK_EQ(decode(INIT_DONE, &d, sizeof(d.d) + 4, &m), -EBADMSG);
    d.d.text_len = UINT32_MAX - 15;
    CHECK_EQ(decode(INIT_DONE, &d, sizeof(d.d) + 4, &m), -EBADMSG);
    CHECK_EQ(decode(INIT_START, &s, sizeof(s), &m), -EBADMSG); /* not for our ears */
    CHECK_EQ(shim_init_decode(&m, 3, &m, NULL), -EBADMSG);
}

static int block_of(uint8_t *out, size_t *ret_len, uint8_t type, const char *path, uint64_t size,
                    uint32_t count)
{
    struct init_files_iter it = {0};
    struct init_file f;
    uint16_t n = (uint16_t)strlen(path);
    uint32_t mode = 0644;
    memset(out, 0, 24);
    memcpy(out, "DBXF", 4);
    memcpy(out + 4, &count, 4);
    out[8] = type;
    memcpy(out + 10, &n, 2);
    memcpy(out + 12, &mode, 4);
    memcpy(out + 16, &size, 8);
    memcpy(out + 24, path, n);
    memcpy(out + 24 + n, "data", 4);
    *ret_len = 24u + n + (type ? 0 : 4);
    int r = init_files_next(out, *ret_len, &it, &f);
    return r ? r : init_files_next(out, *ret_len, &it, &f);
}

static void test_files(void)
{
    static const char *const bad[] = {"", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".", "a\nb"};
    uint8_t out[2048];
    char long_name[300];
    size_t len;
    CHECK_EQ(block_of(out, &len, 0, "a/b.txt", 4, 1), -1);
    CHECK_EQ(block_of(out, &len, 1, "folder", 0, 1), -1);
    CHECK_EQ(block_of(out, &len, 1, "folder", 4, 1), EBADMSG);
    CHECK_EQ(block_of(out, &len, 0, "a", 3, 1), EBADMSG); /* a byte too many */
    CHECK_EQ(block_of(out, &len, 0, "a", 5, 1), EBADMSG);
    CHECK_EQ(block_of(out, &len, 0, "a", UINT64_MAX, 1), EBADMSG);
    CHECK_EQ(block_of(out, &len, 0, "a", 4, 2), EBADMSG); /* one of two */
    CHECK_EQ(block_of(out, &len, 0, "a", 4, 10001), E2BIG);
    CHECK_EQ(block_of(out, &len, 2, "a", 4, 1), EBADMSG);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(block_of(out, &len, 0, bad[i], 4, 1), EBADMSG);
    memset(long_name, 'x', sizeof(long_name));
    long_name[256] = 0;
    CHECK_EQ(block_of(out, &len, 0, long_name, 4, 1), EBADMSG);
    long_name[255] = 0;
    CHECK_EQ(block_of(out, &len, 0, long_name, 4, 1), -1);
}

static void test_start(void)
{
    static char *argv[INIT_MAX_ARGS + 1], *env[INIT_MAX_ARGS + 1];
    struct init_start_request req = {.argv = argv, .env = env};
    struct {
        struct init_start s;
        char text[20];
    } b = {.s = {.uid = 1000, .gid = 1000, .argc = 2, .envc = 1}, .text = "/w\0prog\0arg\0K=V"};
    size_t len = sizeof(b.s) + 16;
    CHECK_EQ(init_decode_start((uint8_t *)&b, len, &req), 0);
    CHECK_STR(req.cwd, "/w");
    CHECK_STR(argv[1], "arg");
    CHECK_STR(env[0], "K=V");
    CHECK(argv[2] == NULL && env[1] == NULL);
    CHECK_EQ(init_decode_start((uint8_t *)&b, len - 1, &req), EBADMSG); /* no NUL at the end */
    CHECK_EQ(init_decode_start((uint8_t *)&b, len + 1, &req), EBADMSG);
    b.s.uid = 0;
    CHECK_EQ(init_decode_start((uint8_t *)&b, len, &req), EBADMSG); /* never root */
    b.s.uid = 1000;
    b.s.argc = 0;
    CHECK_EQ(init_decode_start((uint8_t *)&b, len, &req), EBADMSG);
    b.s.argc = INIT_MAX_ARGS + 1;
    CHECK_EQ(init_decode_start((uint8_t *)&b, len, &req), E2BIG);
}

int main(void)
{
    test_replies();
    test_files();
    test_start();
    return check_result();
}

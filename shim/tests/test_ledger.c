/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger, and its records: put, found again by another process, refused when they cannot be. */
#include "shim/ledger.h"
#include "shim/record.h"

#include "common/base/rand.h"
#include "shim/exec.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct dbx_id id_of(unsigned n)
{
    struct dbx_id id = {{1}};
    memcpy(id.b + 4, &n, sizeof(n));
    return id;
}

static struct shim_ledger *reopen(struct shim_ledger *lg)
{
    struct shim_ledger *again = NULL;
    struct dbx_err err = {0};
    int fd = dup(shim_ledger_fd(lg));
    shim_ledger_free(lg);
    CHECK_EQ(shim_ledger_open(fd, &again, &err), 0);
    return again;
}

static void count(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    (void)id;
    (void)data;
    *(size_t *)user += len;
}

static void test_put(void)
{
    struct shim_ledger *lg;
    struct dbx_id a = id_of(1), b = id_of(2);
    size_t len, sum = 0;
    static uint8_t big[100000];
    memset(big, 'b', sizeof(big));
    CHECK_EQ(shim_ledger_new(&lg, NULL), 0);
    CHECK_EQ(shim_ledger_put(lg, SHIM_LG_EXEC, &a, "one", 3), 0);
    CHECK_EQ(shim_ledger_put(lg, SHIM_LG_EXEC, &b, big, sizeof(big)), 0);
    CHECK_EQ(shim_ledger_put(lg, SHIM_LG_STDIN, &a, "other", 5), 0);
    shim_ledger_mark(lg, SHIM_LG_STDIN, &a, 77);
    CHECK_EQ(shim_ledger_put(lg, SHIM_LG_EXEC, &a, "three", 5), 0);
    lg = reopen(lg);
    CHECK(memcmp(shim_ledger_get(lg, SHIM_LG_EXEC, &a, &len), "three", 5) == 0);
    CHECK_EQ(len, 5);
    CHECK(memcmp(shim_ledger_get(lg, SHIM_LG_EXEC, &b, &len), big, sizeof(big)) == 0);
    CHECK_EQ(shim_ledger_marked(lg, SHIM_LG_STDIN, &a), 77);
    CHECK_EQ(shim_ledger_count(lg, SHIM_LG_EXEC), 2);
    shim_ledger_each(lg, SHIM_LG_EXEC, count, &sum);
    CHECK_EQ(sum, sizeof(big) + 5);
    shim_ledger_del(lg, SHIM_LG_EXEC, &b);
    CHECK(!shim_ledger_get(lg, SHIM_LG_EXEC, &b, &len));
    CHECK_EQ(shim_ledger_put(lg, SHIM_LG_EXEC, &b, "", 0), -E2BIG);
    CHECK_EQ(shim_ledger_put(NULL, SHIM_LG_EXEC, &b, "x", 1), 0);
    for (unsigned n = 0; n < 20000; n++) { /* no block is lost */
        struct dbx_id id = id_of(n % 50 + 100);
        CHECK_EQ(shim_ledger_put(lg, SHIM_LG_EXEC, &id, big, 1 + n * 37 % 60000), 0);
    }
    lg = reopen(lg);
    CHECK_EQ(shim_ledger_count(lg, SHIM_LG_EXEC), 51);
    shim_ledger_free(lg);
}

/* Each record says its own length and number: a torn one would show. */
static void scribble(struct shim_ledger *lg)
{
    static uint32_t words[4096];
    for (unsigned n = 0;; n++) {
        struct dbx_id id = id_of(n % 7);
        uint32_t len = 2 + n * 31 % 4000;
        for (uint32_t i = 1; i < len; i++)
            words[i] = n;
        words[0] = len;
        if (shim_ledger_put(lg, SHIM_LG_EXEC, &id, words, len * 4) < 0)
            _exit(1);
        if (n % 5 == 0)
            shim_ledger_del(lg, SHIM_LG_EXEC, &id);
    }
}

static void check_whole(const struct dbx_id *id, const uint8_t *data, size_t len, void *user)
{
    const uint32_t *words = (const uint32_t *)(const void *)data;
    bool whole = words[0] * 4 == len;
    (void)id;
    (void)user;
    for (uint32_t i = 2; whole && i < words[0]; i++)
        whole = words[i] == words[1];
    CHECK(whole);
}

static void test_killed(void)
{
    struct shim_ledger *lg;
    unsigned dice;
    CHECK_EQ(shim_ledger_new(&lg, NULL), 0);
    for (int i = 0; i < 200; i++) {
        int status;
        dbx_random(&dice, sizeof(dice));
        pid_t pid = fork();
        if (pid == 0) {
            struct itimerval it = {.it_value.tv_usec = 50 + (suseconds_t)(dice % 3000)};
            setitimer(ITIMER_REAL, &it, NULL);
            scribble(lg);
        }
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status));
        lg = reopen(lg);
        shim_ledger_each(lg, SHIM_LG_EXEC, check_whole, NULL);
    }
    shim_ledger_free(lg);
}

static void test_refused(void)
{
    struct shim_ledger *lg, *again;
    struct dbx_id a = id_of(1);
    struct dbx_err err = {0};
    CHECK_EQ(shim_ledger_new(&lg, NULL), 0);
    CHECK_EQ(shim_ledger_put(lg, SHIM_LG_EXEC, &a, "one", 3), 0);
    int fd = dup(shim_ledger_fd(lg));
    uint8_t page[8192];
    CHECK_EQ(pread(fd, page, sizeof(page), 0), (ssize_t)sizeof(page));
    for (size_t at = 4096; at < 4096 + 40; at++) /* the first entry */
        for (int bit = 0; bit < 8; bit++) {
            uint8_t bad = (uint8_t)(page[at] ^ 1u << bit);
            CHECK_EQ(pwrite(fd, &bad, 1, (off_t)at), 1);
            if (shim_ledger_open(dup(fd), &again, &err) == 0)
                shim_ledger_free(again); /* another id, or a mark */
            CHECK_EQ(pwrite(fd, &page[at], 1, (off_t)at), 1);
        }
    uint8_t version = 9;
    CHECK_EQ(pwrite(fd, &version, 1, 4), 1);
    CHECK_EQ(shim_ledger_open(fd, &again, &err), -EBADMSG);
    shim_ledger_free(lg);
    CHECK_EQ(shim_ledger_open(memfd_create("x", MFD_CLOEXEC), &again, &err), -EBADMSG);
}

/* ---- records ---- */

static struct shim_exec_record example(void)
{
    struct shim_exec_record rec = {.rq = DBX_NEW(struct shim_request),
                                   .instance = id_of(9),
                                   .state = SHIM_EX_COMPILING,
                                   .in_compile = true,
                                   .started_us = -5,
                                   .trouble = "why"};
    rec.rq->process = id_of(1);
    rec.rq->sandbox = id_of(2);
    rec.rq->attempt = 3;
    rec.rq->limits.cpu_ms = 1000;
    memcpy(rec.rq->template, "python", 7);
    rec.rq->env = calloc(3, sizeof(char *));
    rec.rq->env[0] = strdup("A=b");
    rec.rq->env[1] = strdup("");
    rec.run_argv = calloc(2, sizeof(char *));
    rec.run_argv[0] = strdup("./main");
    dbx_buf_init(&rec.rq->input, 100);
    dbx_buf_append(&rec.rq->input, "in\0put", 6);
    rec.compile.began = true;
    rec.compile.watch.wall_ms = UINT64_MAX;
    rec.compile.ending.exit_code = -1;
    rec.run.outcome.usage.wall_ms = 42;
    return rec;
}

static void test_exec_record(void)
{
    struct shim_exec_record rec = example(), back;
    struct dbx_buf buf;
    struct dbx_err err = {0};
    dbx_buf_init(&buf, 1u << 20);
    CHECK_EQ(shim_exec_record_encode(&rec, &buf), 0);
    CHECK_EQ(shim_exec_record_decode(buf.data, buf.len, &back, &err), 0);
    CHECK(dbx_id_equal(&back.rq->process, &rec.rq->process));
    CHECK_EQ(back.rq->attempt, 3);
    CHECK_STR(back.rq->template, "python");
    CHECK_STR(back.rq->env[0], "A=b");
    CHECK_STR(back.rq->env[1], "");
    CHECK(!back.rq->env[2] && !back.rq->cwd);
    CHECK_EQ(back.rq->input.len, 6);
    CHECK_STR(back.run_argv[0], "./main");
    CHECK_STR(back.trouble, "why");
    CHECK_EQ(back.started_us, -5);
    CHECK(back.compile.watch.wall_ms == UINT64_MAX);
    CHECK_EQ(back.compile.ending.exit_code, -1);
    CHECK_EQ(back.run.outcome.usage.wall_ms, 42);
    shim_exec_record_done(&back);
    for (size_t cut = 0; cut < buf.len; cut++) { /* nothing that is needed may be away */
        if (shim_exec_record_decode(buf.data, cut, &back, &err) == 0)
            shim_exec_record_done(&back);
        else
            CHECK_EQ(err.code, -EBADMSG);
    }
    dbx_buf_append(&buf, "\xff\x7f\x02\0\0\0zz", 8); /* a field of a later version */
    CHECK_EQ(shim_exec_record_decode(buf.data, buf.len, &back, &err), 0);
    shim_exec_record_done(&back);
    dbx_buf_append(&buf, buf.data + 2, 22); /* a field twice */
    CHECK_EQ(shim_exec_record_decode(buf.data, buf.len, &back, &err), -EBADMSG);
    dbx_buf_clear(&buf);
    rec.state = SHIM_EX_QUEUED;
    CHECK_EQ(shim_exec_record_encode(&rec, &buf), 0);
    CHECK_EQ(shim_exec_record_decode(buf.data, buf.len, &back, &err), -EBADMSG);
    shim_exec_record_done(&rec);
    dbx_buf_done(&buf);
}

static void test_small_records(void)
{
    struct shim_sandbox_record sb = {.template = "go", .disk_mb = 5, .sentry = 99, .fresh = true},
                               sb2;
    struct shim_box_record box = {.instance = id_of(4), .idle_ms = 6, .closing = true}, box2;
    struct shim_stdin_record in;
    struct dbx_buf buf;
    struct dbx_err err = {0};
    dbx_buf_init(&buf, 1u << 20);
    CHECK_EQ(shim_sandbox_record_encode(&sb, &buf), 0);
    CHECK_EQ(shim_sandbox_record_decode(buf.data, buf.len, &sb2, &err), 0);
    CHECK(memcmp(&sb, &sb2, sizeof(sb)) == 0);
    CHECK_EQ(shim_box_record_decode(buf.data, buf.len, &box2, &err), -EBADMSG);
    dbx_buf_clear(&buf);
    CHECK_EQ(shim_box_record_encode(&box, &buf), 0);
    CHECK_EQ(shim_box_record_decode(buf.data, buf.len, &box2, &err), 0);
    CHECK(box2.closing && box2.idle_ms == 6);
    dbx_buf_clear(&buf);
    CHECK_EQ(shim_stdin_record_encode(7, NULL, 0, &buf), 0);
    CHECK_EQ(shim_stdin_record_decode(buf.data, buf.len, &in, &err), 0);
    CHECK_EQ(in.at, 7);
    CHECK_EQ(in.data.len, 0);
    shim_stdin_record_done(&in);
    dbx_buf_done(&buf);
}

int main(void)
{
    test_put();
    test_killed();
    test_refused();
    test_exec_record();
    test_small_records();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The output log's contract: order, following across processes, holding back,
 * the end, and of files torn tails, retention, damage. */
#include "common/proto/output_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

static struct dbx_loop *loop;
static char dir[PATH_MAX], url[PATH_MAX + 8];

static struct dbx_olog *open_log(bool writer, uint64_t segment, uint64_t retain)
{
    struct dbx_olog *log = NULL;
    struct dbx_err err = {0};
    struct dbx_olog_opts o = {.loop = loop,
                              .url = url,
                              .writer = writer,
                              .segment_bytes = segment,
                              .retain_bytes = retain};
    if (dbx_olog_open(&o, &log, &err) < 0)
        fprintf(stderr, "open: %s\n", err.msg);
    CHECK(log != NULL);
    return log;
}

static struct dbx_id key_of(unsigned n)
{
    struct dbx_id id = {{0}};
    id.b[0] = (uint8_t)n;
    id.b[1] = (uint8_t)(n >> 8);
    return id;
}

struct sink {
    struct dbx_olog_reader *reader;
    unsigned got, want, wrong, truncations, lives;
    unsigned hold_at; /* the entry that is refused once */
    int64_t gone, next;
    bool held;
};

static bool on_entry(const struct dbx_olog_entry *e, void *user)
{
    struct sink *s = user;
    unsigned n;
    if (s->hold_at && s->got == s->hold_at && !s->held) {
        s->held = true;
        dbx_loop_stop(loop, 0);
        return false;
    }
    if (e->len < sizeof(n))
        s->wrong++;
    memcpy(&n, e->value, sizeof(n));
    if (s->truncations == 0 && n != s->got)
        s->wrong++;
    s->got++;
    s->next = e->next;
    if (s->got == s->want)
        dbx_loop_stop(loop, 0);
    return true;
}

static void on_truncated(int64_t wanted, int64_t oldest, void *user)
{
    struct sink *s = user;
    s->truncations++;
    s->gone += oldest - wanted;
}

static void on_live(int64_t next, void *user)
{
    struct sink *s = user;
    (void)next;
    s->lives++;
    if (s->want == 0)
        dbx_loop_stop(loop, 0);
}

static void on_error(const struct dbx_err *err, void *user)
{
    (void)user;
    fprintf(stderr, "reader: %s\n", err->msg);
    CHECK(false);
    dbx_loop_stop(loop, 1);
}

static const struct dbx_olog_reader_handlers handlers = {on_entry, on_truncated, on_live, on_error};

static void on_deadline(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 99);
}

static void run(void)
{
    struct dbx_timer *t = dbx_timer_new(loop, on_deadline, NULL);
    dbx_timer_start(t, 60000, 0);
    CHECK_EQ(dbx_loop_run(loop), 0);
    dbx_timer_free(t);
}

static void stop(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 0);
}

static unsigned acks, acks_wanted;
static int64_t last_offset;

static void on_ack(int64_t offset, const struct dbx_err *err, void *user)
{
    (void)user;
    CHECK(err == NULL);
    last_offset = offset;
    if (++acks == acks_wanted)
        dbx_loop_stop(loop, 0);
}

static void append(struct dbx_olog *log, const struct dbx_id *key, unsigned n, size_t len)
{
    static char data[DBX_LOG_MAX_VALUE];
    CHECK_EQ(dbx_olog_append(log, key, &n, sizeof(n), data, len, on_ack, NULL), 0);
}

static void wait_acks(unsigned n)
{
    acks_wanted = n;
    if (acks < n)
        run();
    acks_wanted = 0;
}

static void test_order_and_follow(void)
{
    struct dbx_olog *w = open_log(true, 4096, 0), *r = open_log(false, 0, 0);
    struct dbx_id a = key_of(1), b = key_of(2);
    struct sink sa = {.want = 500}, sb = {.want = 0};
    for (unsigned i = 0; i < 250; i++) {
        append(w, &a, i, i % 97);
        append(w, &b, i, 10);
    }
    wait_acks(500);
    sa.reader = dbx_olog_follow(r, &a, 0, &handlers, &sa);
    for (unsigned i = 250; i < 500; i++) /* written while the readers begin */
        append(w, &a, i, 50);
    run();
    CHECK_EQ(sa.got, 500);
    CHECK_EQ(sa.wrong + sb.wrong, 0);
    sb.reader = dbx_olog_follow(r, &b, 0, &handlers, &sb);
    run();
    CHECK_EQ(sb.got, 250);
    wait_acks(750);
    sa.want = 501; /* live now */
    append(w, &a, 500, 100000);
    run();
    CHECK_EQ(sa.got, 501);
    CHECK_EQ(sa.wrong, 0);
    dbx_olog_reader_free(sa.reader);
    dbx_olog_reader_free(sb.reader);
    dbx_olog_close(r);
    dbx_olog_close(w);
}

static void test_hold(void)
{
    struct dbx_olog *log = open_log(true, 0, 0);
    struct dbx_id k = key_of(77);
    struct sink slow = {.want = 100, .hold_at = 40}, quick = {.want = 0};
    for (unsigned i = 0; i < 100; i++)
        append(log, &k, i, 1000);
    wait_acks(100);
    slow.reader = dbx_olog_follow(log, &k, 0, &handlers, &slow);
    quick.reader = dbx_olog_follow(log, &k, 0, &handlers, &quick);
    run();
    CHECK_EQ(slow.got, 40);
    if (!quick.lives)
        run();
    CHECK_EQ(quick.got, 100); /* the held one holds nobody else */
    dbx_olog_resume(slow.reader);
    run();
    CHECK_EQ(slow.got, 100);
    CHECK_EQ(slow.wrong, 0);
    dbx_olog_reader_free(slow.reader);
    dbx_olog_reader_free(quick.reader);
    dbx_olog_close(log);
}

static void test_one_writer(void)
{
    struct dbx_olog *log = open_log(true, 0, 0), *second = NULL;
    struct dbx_err err = {0};
    struct dbx_olog_opts o = {.loop = loop, .url = url, .writer = true};
    CHECK_EQ(dbx_olog_open(&o, &second, &err), -EBUSY);
    CHECK_EQ(err.kind, DBX_CONFLICT);
    dbx_olog_close(log);
    o.url = "ftp:/x";
    CHECK_EQ(dbx_olog_open(&o, &second, &err), -EINVAL);
}

static void run_for(struct dbx_loop *l, uint64_t ms)
{
    struct dbx_timer *t = dbx_timer_new(l, stop, NULL);
    dbx_timer_start(t, ms, 0);
    dbx_loop_run(l);
    dbx_timer_free(t);
}

/* A writer in another process, killed while it writes; what a reader here gets has no hole, and the
 * next writer goes on behind it. */
static void test_kill(void)
{
    struct dbx_id k = key_of(4242);
    unsigned expect = 0;
    for (int round = 0; round < 5; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct dbx_loop *own = dbx_loop_new();
            loop = own;
            struct dbx_olog *w = open_log(true, 1 << 20, 0);
            static char data[300];
            for (unsigned i = expect;;)
                if (dbx_olog_append(w, &k, &i, sizeof(i), data, sizeof(data), NULL, NULL) == 0)
                    i++;
                else /* Kafka's queue is full: let it say what was delivered */
                    run_for(own, 5);
        }
        struct sink s = {.want = expect + 2000};
        struct dbx_olog *r = open_log(false, 0, 0);
        s.reader = dbx_olog_follow(r, &k, 0, &handlers, &s);
        run();
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        CHECK_EQ(s.wrong, 0);
        s.want = 0;
        dbx_olog_reader_free(s.reader);
        /* What the next writer finds is whole and counts on (an entry that was written and not yet
         * acknowledged may be there). */
        struct dbx_olog *next = open_log(true, 1 << 20, 0);
        struct sink all = {.want = 0};
        all.reader = dbx_olog_follow(next, &k, 0, &handlers, &all);
        run();
        CHECK_EQ(all.wrong, 0);
        CHECK_EQ(all.truncations, 0);
        CHECK(all.got >= expect + 2000);
        expect = all.got;
        dbx_olog_reader_free(all.reader);
        dbx_olog_close(next);
        dbx_olog_close(r);
    }
}

/* Garbage behind the last whole entry, as a crash of the machine leaves it. */
static void test_torn_tail(void)
{
    struct dbx_id k = key_of(9);
    struct dbx_olog *log = open_log(true, 0, 0);
    int64_t oldest, next;
    for (unsigned i = 0; i < 10; i++)
        append(log, &k, i, 100);
    CHECK_EQ(dbx_olog_bounds(log, dbx_olog_partition(&k), &oldest, &next, NULL), 0);
    dbx_olog_close(log);
    char path[PATH_MAX + 64], index[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%02u/%020d.seg", dir, dbx_olog_partition(&k), 0);
    snprintf(index, sizeof(index), "%s/%02u/index", dir, dbx_olog_partition(&k));
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    CHECK(write(fd, "DLG1\x10\0\0\0torn", 12) == 12);
    close(fd);
    fd = open(index, O_WRONLY | O_CLOEXEC);
    CHECK(pwrite(fd, "another-boot", 12, 8) == 12);
    close(fd);
    log = open_log(true, 0, 0);
    int64_t after;
    CHECK_EQ(dbx_olog_bounds(log, dbx_olog_partition(&k), &oldest, &after, NULL), 0);
    CHECK_EQ(after, next);
    append(log, &k, 10, 5);
    struct sink s = {.want = 11};
    s.reader = dbx_olog_follow(log, &k, 0, &handlers, &s);
    run();
    CHECK_EQ(s.wrong, 0);
    dbx_olog_reader_free(s.reader);
    dbx_olog_close(log);
}

static void test_damage(void)
{
    struct dbx_id k = key_of(11);
    struct dbx_olog *log = open_log(true, 0, 0);
    for (unsigned i = 0; i < 3; i++)
        append(log, &k, i, 100);
    char path[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%02u/%020d.seg", dir, dbx_olog_partition(&k), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(pwrite(fd, "X", 1, 136 + 60) == 1); /* in the second entry's value */
    close(fd);
    struct sink s = {.want = 2};
    s.reader = dbx_olog_follow(log, &k, 0, &handlers, &s);
    run();
    CHECK_EQ(s.got, 2);
    CHECK_EQ(s.truncations, 1);
    CHECK_EQ(s.gone, 136);
    dbx_olog_reader_free(s.reader);
    dbx_olog_close(log);
}

static void test_retention(void)
{
    struct dbx_id k = key_of(12);
    struct dbx_olog *log = open_log(true, 10000, 50000);
    for (unsigned i = 0; i < 200; i++)
        append(log, &k, i, 1000);
    struct dbx_timer *t = dbx_timer_new(loop, stop, NULL);
    int64_t oldest = 0, next = 0;
    for (int i = 0; i < 50 && oldest == 0; i++) { /* until retention has come round */
        dbx_timer_start(t, 100, 0);
        run();
        CHECK_EQ(dbx_olog_bounds(log, dbx_olog_partition(&k), &oldest, &next, NULL), 0);
    }
    CHECK(oldest > 0);
    CHECK(next - oldest <= 50000 + 11000);
    struct sink s = {.want = 0};
    s.reader = dbx_olog_follow(log, &k, 0, &handlers, &s);
    run();
    CHECK_EQ(s.truncations, 1);
    CHECK_EQ(s.gone, oldest);
    CHECK_EQ(s.got, (next - oldest) / 1036);
    dbx_olog_reader_free(s.reader);
    /* An offset beyond the end is told and clamped. */
    struct sink beyond = {.want = 0};
    beyond.reader = dbx_olog_follow(log, &k, next + 5000, &handlers, &beyond);
    run();
    CHECK_EQ(beyond.truncations, 1);
    dbx_olog_reader_free(beyond.reader);
    dbx_timer_free(t);
    dbx_olog_close(log);
}

/* A reader that comes before anything was ever written. */
static void test_reader_first(void)
{
    struct dbx_id k = key_of(13);
    struct dbx_olog *r = open_log(false, 0, 0), *w = NULL;
    struct sink s = {.want = 0};
    s.reader = dbx_olog_follow(r, &k, 0, &handlers, &s);
    run();
    CHECK_EQ(s.lives, 1);
    w = open_log(true, 0, 0);
    append(w, &k, 0, 10);
    s.want = 1;
    run();
    CHECK_EQ(s.got, 1);
    dbx_olog_reader_free(s.reader);
    dbx_olog_close(w);
    dbx_olog_close(r);
}

/* on_live is about the end as it was when it was asked for: what was acknowledged before has been
 * given by then, whoever wrote it and whatever others wrote behind it. */
static void test_catch_up(void)
{
    struct dbx_olog *w = open_log(true, 0, 0), *log = open_log(false, 0, 0);
    struct dbx_id k = key_of(21), other = key_of(22);
    for (unsigned n = 0; dbx_olog_partition(&other) != dbx_olog_partition(&k); n++)
        other = key_of(1000 + n);
    struct sink s = {.want = 0}, second = {.want = 0};
    s.reader = dbx_olog_follow(log, &k, 0, &handlers, &s);
    run();
    for (unsigned i = 0; i < 100; i++) {
        unsigned lives = s.lives;
        append(w, &k, i, 10);
        append(w, &other, i, 10);
        wait_acks(2 * i + 2);
        if (i % 10 == 9) { /* and for one that begins then */
            memset(&second, 0, sizeof(second));
            second.reader = dbx_olog_follow(log, &k, 0, &handlers, &second);
            while (second.lives == 0)
                run();
            CHECK_EQ(second.got, i + 1);
            dbx_olog_reader_free(second.reader);
        }
        dbx_olog_catch_up(s.reader);
        while (s.lives == lives)
            run();
        CHECK_EQ(s.got, i + 1);
        CHECK_EQ(s.lives, lives + 1);
    }
    CHECK_EQ(s.wrong, 0);
    dbx_olog_reader_free(s.reader);
    dbx_olog_close(log);
    dbx_olog_close(w);
}

/* The same tests run on a real broker where DBX_TEST_KAFKA names one
 * (tests/system/test_output_log.py does). */
static void fresh(const char *kafka, void (*test)(void))
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/olog.XXXXXX", tmp ? tmp : "/tmp");
    CHECK(mkdtemp(dir) != NULL);
    if (kafka)
        snprintf(url, sizeof(url), "kafka:%s?topic=%s", kafka, strrchr(dir, '/') + 1);
    else
        snprintf(url, sizeof(url), "file:%s", dir);
    loop = dbx_loop_new();
    acks = 0;
    test();
    loop = dbx_loop_free(loop);
    CHECK_EQ(dbx_fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
    const char *kafka = getenv("DBX_TEST_KAFKA");
    fresh(kafka, test_order_and_follow);
    fresh(kafka, test_hold);
    fresh(kafka, test_kill);
    fresh(kafka, test_reader_first);
    fresh(kafka, test_catch_up);
    if (!kafka) {
        fresh(NULL, test_one_writer);
        fresh(NULL, test_torn_tail);
        fresh(NULL, test_damage);
        fresh(NULL, test_retention);
    }
    return check_result();
}

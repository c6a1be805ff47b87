/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/ext/crypto.h"
#include "common/io/loop.h"
#include "registry-cache/store.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    struct dbx_loop *loop;
    struct rc_store *s;
    char dir[64];
    int committed;
} t;

static void open_store(uint64_t max_bytes, uint64_t max_refs)
{
    struct rc_store_opts opts = {.dir = t.dir, .max_bytes = max_bytes, .max_refs = max_refs};
    struct dbx_err err = {0};

    opts.loop = t.loop = dbx_loop_new();
    CHECK_EQ(rc_store_open(&opts, &t.s, &err), 0);
}

static void close_store(void)
{
    t.s = rc_store_close(t.s);
    dbx_loop_free(t.loop);
}

static void on_commit(int result, void *user)
{
    (void)user;
    t.committed = result;
    dbx_loop_stop(t.loop, 0);
}

/* size bytes of `fill` under the key. */
static void add(const char *key, enum rc_kind kind, char fill, size_t size)
{
    uint8_t *data = malloc(size + 1);
    struct rc_temp temp;
    struct rc_ref ref = {.key = (char *)key,
                         .kind = kind,
                         .size = size,
                         .etag = (char *)"e",
                         .modified = (char *)"",
                         .url = (char *)"https://h/x",
                         .fetched_s = 7,
                         .max_age_s = 9};

    memset(data, fill, size);
    dbx_sha256(data, size, ref.digest);
    CHECK_EQ(rc_store_temp(t.s, &temp), 0);
    CHECK_EQ(dbx_write_all(temp.fd, data, size), 0);
    t.committed = 1;
    rc_store_commit(t.s, &temp, ref.digest, size, on_commit, NULL);
    dbx_loop_run(t.loop);
    CHECK_EQ(t.committed, 0);
    CHECK(rc_store_put(t.s, &ref) != NULL);
    free(data);
}

static bool has(const char *key, char fill, size_t size)
{
    struct rc_ref *ref = rc_store_find(t.s, key, true);
    char got[16] = {0};
    int fd = ref ? rc_store_fd(t.s, ref) : -1;

    return fd >= 0 && ref->size == size && pread(fd, got, 1, (off_t)size - 1) == 1 &&
           got[0] == fill && pread(fd, got, 1, (off_t)size) == 0;
}

static uint64_t blobs(void)
{
    struct rc_store_stats st;

    rc_store_stats(t.s, &st);
    return st.blobs;
}

static void test_basics(void)
{
    struct rc_store_opts again = {.dir = t.dir, .max_bytes = 1 << 20, .max_refs = 100};
    struct rc_store *other;
    struct dbx_err err;

    open_store(1 << 20, 100);
    again.loop = t.loop;
    CHECK_EQ(rc_store_open(&again, &other, &err), -EBUSY);
    add("a", RC_FIXED, 'a', 1000);
    add("b", RC_SOURCE, 'b', 10);
    add("b2", RC_SOURCE, 'b', 10); /* the same bytes */
    add("gone", RC_SOURCE, 'g', 10);
    add("b", RC_SOURCE, 'c', 20);
    rc_store_drop(t.s, "gone");
    CHECK_EQ(blobs(), 4);
    CHECK(rc_store_find(t.s, "none", false) == NULL);
    for (int i = 0; i < 2; i++) { /* as it is, and after a restart */
        CHECK(has("a", 'a', 1000));
        CHECK(has("b", 'c', 20));
        CHECK(has("b2", 'b', 10));
        CHECK(!rc_store_find(t.s, "gone", false));
        CHECK_STR(rc_store_find(t.s, "a", true)->url, "https://h/x");
        CHECK_EQ(rc_store_find(t.s, "a", true)->max_age_s, 9);
        close_store();
        open_store(1 << 20, 100);
    }
    CHECK_EQ(blobs(), 3); /* what no record names is gone */
    close_store();
}

static void test_eviction(void)
{
    open_store(3000, 100);
    add("x", RC_FIXED, 'x', 1000);
    add("y", RC_SOURCE, 'y', 1000);
    CHECK(has("x", 'x', 1000)); /* used: y is now the oldest but for what was there before */
    add("z", RC_FIXED, 'z', 1500);
    CHECK(has("x", 'x', 1000) && has("z", 'z', 1500));
    CHECK(!rc_store_find(t.s, "y", false));
    add("w", RC_FIXED, 'w', 1500);
    CHECK(!rc_store_find(t.s, "x", true));
    CHECK(rc_store_find(t.s, "x", false)); /* its digest is remembered */
    close_store();
    open_store(3000, 100);
    CHECK(rc_store_find(t.s, "x", false) && has("w", 'w', 1500));
    close_store();
    open_store(3000, 3);
    for (char c = '0'; c < '6'; c++)
        add((char[]){c, 0}, RC_FIXED, c, 1);
    CHECK(!rc_store_find(t.s, "0", false) && has("5", '5', 1));
    close_store();
}

/* Whatever of the index is torn off, what is left is right; a blob of another size is not served.
 */
static void test_torn(void)
{
    char path[256];

    open_store(1 << 20, 100);
    add("p", RC_FIXED, 'p', 100);
    add("q", RC_FIXED, 'q', 100);
    close_store();
    (void)snprintf(path, sizeof(path), "%s/index", t.dir);
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(truncate(path, st.st_size - 5), 0);
    open_store(1 << 20, 100);
    CHECK(has("p", 'p', 100));
    CHECK(!rc_store_find(t.s, "q", false));
    struct rc_ref *p = rc_store_find(t.s, "p", true);
    char hex[65];
    for (int i = 0; i < 32; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", p->digest[i]);
    close_store();
    (void)snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", t.dir, hex, hex);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(pwrite(fd, "P", 1, 50) == 1);
    close(fd);
    uint64_t bad = 0;
    struct dbx_err err;
    CHECK_EQ(rc_store_fsck(t.dir, &bad, &err), 0);
    CHECK_EQ(bad, 1);
    open_store(1 << 20, 100);
    CHECK(!rc_store_find(t.s, "p", true));
    add("r", RC_FIXED, 'r', 100);
    close_store();
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC,
              0600); /* somebody's else: no record of its size */
    close(fd);
    open_store(1 << 20, 100);
    CHECK(!rc_store_find(t.s, "p", true) && has("r", 'r', 100));
    close_store();
}

int main(void)
{
    struct dbx_err err;

    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/test-store-%d", getpid());
    test_basics();
    test_eviction();
    test_torn();
    CHECK_EQ(dbx_fs_remove_tree(t.dir, &err), 0);
    return check_result();
}

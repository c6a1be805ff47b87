/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fs.h"
#include "common/proto/token_int.h"
#include "tests/unit/check.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static int ring_of(const char *text, struct dbx_keyring **ret)
{
    char path[] = "/tmp/dbx-keys-XXXXXX";
    int fd = mkstemp(path);
    struct dbx_err err = {0};

    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    int r = dbx_keyring_load(path, ret, &err);
    CHECK((r < 0) == (err.msg[0] != 0));
    (void)unlink(path);
    return r;
}

static void test_ring(void)
{
    static const char *const bad[] = {
        "",
        "# none\n",
        "1 abcd\n",
        "256 " KEY_A "\n",
        KEY_A "\n",
        "1 " KEY_A "\n1 " KEY_B "\n",
        "1 " KEY_A "00\n",
        "1  \n",
        "1 g" KEY_A "\n",
    };
    struct dbx_keyring *ring = NULL;

    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(ring_of(bad[i], &ring) < 0);
    CHECK_EQ(dbx_keyring_load("/nonexistent/keys", &ring, NULL), -ENOENT);
    CHECK_EQ(ring_of("# our keys\n\n7 " KEY_A "\n3 " KEY_B, &ring), 0);
    dbx_keyring_free(ring);
}

static void test_sign(void)
{
    struct dbx_keyring *ring = NULL, *rotated = NULL, *other = NULL;
    struct dbx_token t = {.kind = DBX_TOKEN_DAEMON, .role = DBX_ROLE_NONE, .expires = 1000}, back;
    char text[DBX_TOKEN_MAX];

    CHECK_EQ(ring_of("1 " KEY_A "\n", &ring), 0);
    CHECK_EQ(ring_of("2 " KEY_B "\n1 " KEY_A "\n", &rotated), 0);
    CHECK_EQ(ring_of("1 " KEY_B "\n", &other), 0);
    t.subject = dbx_id_new();
    memset(t.label, 'n', sizeof(t.label) - 1);
    CHECK_EQ(dbx_token_sign(ring, &t, text), 0);
    CHECK(strlen(text) < DBX_TOKEN_MAX && strncmp(text, "dbx1.", 5) == 0);
    CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_DAEMON, 1000, &back, NULL), 0);
    CHECK(dbx_id_equal(&back.subject, &t.subject) && dbx_id_is_zero(&back.user));
    CHECK_STR(back.label, t.label);
    CHECK_EQ(dbx_token_verify(rotated, text, DBX_TOKEN_DAEMON, 1000, &back, NULL), 0);
    CHECK_EQ(dbx_token_verify(other, text, DBX_TOKEN_DAEMON, 1000, &back, NULL), -EACCES);
    CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_STREAM, 1000, &back, NULL), -EACCES);
    CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_DAEMON, 1060, &back, NULL), 0);
    struct dbx_err err = {0};
    CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_DAEMON, 1061, &back, &err), -ETIME);
    CHECK_EQ(err.kind, DBX_DENIED);
    dbx_keyring_free(ring);
    dbx_keyring_free(rotated);
    dbx_keyring_free(other);
}

static void test_bent(void)
{
    static const char *const bad[] = {"", "dbx1.", "dbx1..", "dbx2.AA.AA", "dbx1.AA", "dbx1.AA.AA"};
    struct dbx_keyring *ring = NULL;
    struct dbx_token t = {.kind = DBX_TOKEN_STREAM, .role = DBX_ROLE_VIEWER, .expires = 1000}, back;
    char text[DBX_TOKEN_MAX];

    CHECK_EQ(ring_of("1 " KEY_A "\n", &ring), 0);
    CHECK_EQ(dbx_token_sign(ring, &t, text), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(dbx_token_verify(ring, bad[i], DBX_TOKEN_STREAM, 0, &back, NULL), -EACCES);
    CHECK_EQ(dbx_token_verify(ring, NULL, DBX_TOKEN_STREAM, 0, &back, NULL), -EACCES);
    /* The very last character of the mac holds two bits that mean nothing. */
    for (size_t i = 0; i + 1 < strlen(text); i++) {
        char was = text[i];
        text[i] = was == 'A' ? 'B' : 'A';
        CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_STREAM, 0, &back, NULL), -EACCES);
        text[i] = was;
    }
    CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_STREAM, 0, &back, NULL), 0);
    dbx_keyring_free(ring);
}

static void put_keys(const char *path, const char *text)
{
    CHECK_EQ(dbx_fs_write_atomic(path, text, strlen(text), 0600, NULL), 0);
}

static bool signs(const struct dbx_keyring *ring, const char *by)
{
    struct dbx_token t = {.kind = DBX_TOKEN_STREAM, .expires = 1000}, back;
    struct dbx_keyring *only = NULL;
    char text[DBX_TOKEN_MAX];

    CHECK_EQ(dbx_token_sign(ring, &t, text), 0);
    CHECK_EQ(dbx_token_verify(ring, text, DBX_TOKEN_STREAM, 0, &back, NULL), 0);
    CHECK_EQ(ring_of(by, &only), 0);
    bool ok = dbx_token_verify(only, text, DBX_TOKEN_STREAM, 0, &back, NULL) == 0;
    dbx_keyring_free(only);
    return ok;
}

static void test_rotation(void)
{
    static const char a[] = "1 " KEY_A "\n", b[] = "2 " KEY_B "\n";
    char dir[] = "/tmp/dbx-keys-XXXXXX", path[64];
    struct dbx_keyring *ring = NULL;

    CHECK(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/keys", dir);
    put_keys(path, a);
    CHECK_EQ(dbx_keyring_load(path, &ring, NULL), 0);
    dbx_keyring__look(ring);
    CHECK(signs(ring, a));
    put_keys(path, "2 " KEY_B "\n1 " KEY_A "\n");
    for (int i = 0; i < 3; i++) { /* the others may not know it yet */
        dbx_keyring__look(ring);
        CHECK(signs(ring, a));
    }
    dbx_keyring__look(ring);
    CHECK(signs(ring, b));
    put_keys(path, "1 " KEY_A "\n2 " KEY_B "\n"); /* known by now: back at once */
    dbx_keyring__look(ring);
    CHECK(signs(ring, a));
    put_keys(path, b);
    dbx_keyring__look(ring);
    CHECK(signs(ring, b));
    put_keys(path, "nonsense\n");
    dbx_keyring__look(ring);
    CHECK(signs(ring, b));
    (void)unlink(path);
    dbx_keyring__look(ring);
    CHECK(signs(ring, b));
    put_keys(path, a); /* nothing in common: no wait */
    dbx_keyring__look(ring);
    CHECK(signs(ring, a));
    dbx_keyring_free(ring);
    CHECK_EQ(dbx_fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
    test_ring();
    test_sign();
    test_bent();
    test_rotation();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/err.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The example of docs/errors.md; keep the two the same. */
static int layer_open(const char *name, int *ret_fd, struct dbx_err *err)
{
    if (!*name)
        return dbx_err_field(err, "layer", "must not be empty"); /* -EINVAL, DBX_INVALID */
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dbx_err_sys(err, "open layer '%s'",
                           name); /* errno: its text, and the kind from it */
    *ret_fd = fd;                 /* ret_ only on success, err only on failure */
    return 0;
}

static void test_example(void)
{
    struct dbx_err err;
    int fd = -1;
    CHECK_EQ(layer_open("", &fd, &err), -EINVAL);
    CHECK_EQ(err.kind, DBX_INVALID);
    CHECK_STR(err.field, "layer");
    int r = layer_open("no-such-layer", &fd, &err);
    CHECK_EQ(r, -ENOENT);
    CHECK_EQ(err.kind, DBX_NOT_FOUND);
    CHECK_EQ(dbx_err_wrap(&err, r, "start sandbox"), -ENOENT);
    CHECK_STR(err.msg, "start sandbox: open layer 'no-such-layer': No such file or directory");
    CHECK_EQ(layer_open(".", &fd, &err), 0);
    close(fd);
}

static void test_set(void)
{
    struct dbx_err err = {0};
    CHECK_EQ(dbx_err_set(&err, -EBUSY, DBX_CONFLICT, "port %d is taken", 7), -EBUSY);
    CHECK_EQ(err.code, -EBUSY);
    CHECK_EQ(err.kind, DBX_CONFLICT);
    CHECK_STR(err.msg, "port 7 is taken");
    CHECK_EQ(dbx_err_set(NULL, -EBUSY, DBX_CONFLICT, "x"), -EBUSY);
    CHECK_EQ(dbx_err_field(&err, "files[2].path", "is %s", "absolute"), -EINVAL);
    CHECK_EQ(err.kind, DBX_INVALID);
    CHECK_STR(err.field, "files[2].path");
    CHECK_STR(err.msg, "is absolute");
    CHECK_EQ(dbx_err_field(NULL, "x", "y"), -EINVAL);
    CHECK_EQ(dbx_err_set(&err, -EIO, DBX_INTERNAL, "again"), -EIO);
    CHECK_STR(err.field, "");
}

static void test_wrap(void)
{
    struct dbx_err err;
    (void)dbx_err_field(&err, "name", "too long");
    CHECK_EQ(dbx_err_wrap(&err, -EINVAL, "template '%s'", "x"), -EINVAL);
    CHECK_STR(err.msg, "template 'x': too long");
    CHECK_STR(err.field, "name");
    CHECK_EQ(err.kind, DBX_INVALID);
    CHECK_EQ(dbx_err_wrap(&err, -EINVAL, "%s", err.msg),
             -EINVAL); /* an argument that is in err itself */
    CHECK_STR(err.msg, "template 'x': too long: template 'x': too long");
    struct dbx_err empty = {0};
    CHECK_EQ(dbx_err_wrap(&empty, -ENOENT, "open layer"), -ENOENT);
    CHECK_STR(empty.msg, "open layer: No such file or directory");
    CHECK_EQ(empty.kind, DBX_NOT_FOUND);
    CHECK_EQ(dbx_err_wrap(NULL, -EIO, "x"), -EIO);
}

static void test_sys(void)
{
    static const struct {
        int e;
        enum dbx_kind kind;
    } rows[] = {{ENOENT, DBX_NOT_FOUND},  {EACCES, DBX_DENIED},        {EPERM, DBX_DENIED},
                {ENOSPC, DBX_LIMIT},      {EMFILE, DBX_LIMIT},         {ENFILE, DBX_LIMIT},
                {ENOMEM, DBX_LIMIT},      {E2BIG, DBX_LIMIT},          {EDQUOT, DBX_LIMIT},
                {ETIMEDOUT, DBX_TIMEOUT}, {ECONNREFUSED, DBX_UNAVAIL}, {ECONNRESET, DBX_UNAVAIL},
                {EPIPE, DBX_UNAVAIL},     {EEXIST, DBX_CONFLICT},      {EIO, DBX_INTERNAL}};
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        struct dbx_err err = {.field = "old"};
        errno = rows[i].e;
        CHECK_EQ(dbx_err_sys(&err, "open '%s'", "f"), -rows[i].e);
        CHECK_EQ(err.code, -rows[i].e);
        CHECK_EQ(err.kind, rows[i].kind);
        CHECK_STR(err.field, "");
        CHECK(strncmp(err.msg, "open 'f': ", 10) == 0);
    }
    errno = ENOENT;
    CHECK_EQ(dbx_err_sys(NULL, "x"), -ENOENT);
}

static void test_clean(void)
{
    struct dbx_err err;
    (void)dbx_err_set(&err, -EIO, DBX_INTERNAL,
                      "a\nb\x1b[2Jc\xff"
                      "d\xc3\xa9");
    CHECK_STR(err.msg, "a b [2Jc?d\xc3\xa9");
    char text[300];
    memset(text, 'x', sizeof(text));
    memcpy(text + sizeof(err.msg) - 2, "\xc3\xa9", 3); /* cut between its two bytes */
    (void)dbx_err_set(&err, -EIO, DBX_INTERNAL, "%s", text);
    CHECK_EQ(strlen(err.msg), sizeof(err.msg) - 2);
}

static void test_kinds(void)
{
    for (int k = DBX_OK; k <= DBX_INTERNAL; k++)
        CHECK_EQ(dbx_kind_parse(dbx_kind_name((enum dbx_kind)k)), k);
    CHECK_STR(dbx_kind_name(DBX_NOT_FOUND), "not_found");
    CHECK_EQ(dbx_kind_parse("what"), DBX_INTERNAL);
    CHECK_EQ(dbx_kind_parse(NULL), DBX_INTERNAL);
}

int main(void)
{
    test_example();
    test_set();
    test_wrap();
    test_sys();
    test_clean();
    test_kinds();
    return check_result();
}

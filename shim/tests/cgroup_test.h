/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of cgroups: a tree of plain files below root, which the test makes by mkdtemp(). */
#pragma once

#include "common/base/fs.h"
#include "tests/unit/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/dbx-cgroup-XXXXXX";

static inline void put(const char *path, const char *text)
{
    DBX_CLEANUP(dbx_freep) char *full = dbx_asprintf("%s/%s", root, path);
    DBX_CLEANUP(dbx_freep) char *dir = dbx_strndup(full, (size_t)(strrchr(full, '/') - full));
    struct dbx_err err = {0};
    CHECK_EQ(dbx_fs_mkdirs(dir, 0755, &err), 0);
    int fd =
        open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644); /* as the kernel: in place */
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline const char *get(const char *path)
{
    static char text[256];
    DBX_CLEANUP(dbx_freep) char *full = dbx_asprintf("%s/%s", root, path);
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    snprintf(text, sizeof(text), "%s",
             dbx_fs_read(full, 4096, &buf, NULL) ? "(missing)" : dbx_buf_cstr(&buf));
    return text;
}

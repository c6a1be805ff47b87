/* SPDX-License-Identifier: Apache-2.0 */
/* When the supervisor is killed its daemons get SIGTERM from the kernel (setpriv --pdeathsig) and
 * take a moment to end. A new shim beside the old one would reach for the same sandboxes. Their
 * pids are in the status that was left; a pid may be anyone's by now, so what counts is that its
 * command line names a file in the state folder. PostgreSQL's does not: run-postgres waits for it.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/supervisor/supervisor.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/ext/json.h"

#define GRACE_MS 15000
#define KILLED_MS 5000
#define MAX_CMDLINE (128u << 10)

static bool is_ours(int pid, const char *state_dir)
{
    char path[64], inside[PATH_MAX];
    struct dbx_buf buf;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    snprintf(inside, sizeof(inside), "%s/", state_dir);
    bool ours = dbx_fs_read(path, MAX_CMDLINE, &buf, NULL) == 0 && buf.len > 0 &&
                memmem(buf.data, buf.len, inside, strlen(inside));
    dbx_buf_done(&buf);
    return ours;
}

static bool gone(int pidfd, int timeout_ms)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

static void end_one(int pid, const char *state_dir)
{
    DBX_CLEANUP(dbx_closep) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 || !is_ours(pid, state_dir))
        return;
    dbx_log(DBX_LOG_INFO, NULL, "waiting for a daemon of the one before, pid %d", pid);
    (void)syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
    if (gone(fd, GRACE_MS))
        return;
    dbx_log(DBX_LOG_WARN, NULL, "pid %d does not end: killed", pid);
    (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    (void)gone(fd, KILLED_MS);
}

static void end_those_of(const char *state_dir, const char *name)
{
    char path[PATH_MAX];
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    snprintf(path, sizeof(path), "%s/%s", state_dir, name);
    if (dbx_fs_read(path, 1 << 20, &buf, NULL) < 0 ||
        dbx_json_parse(buf.data, buf.len, NULL, &doc, NULL) < 0)
        return; /* it ended as it should */
    const struct dbx_json *daemons = dbx_json_get(dbx_json_root(doc), "daemons");
    for (size_t i = 0; i < dbx_json_count(daemons); i++) {
        int64_t pid = dbx_json_get_i64(dbx_json_at(daemons, i), "pid", 0);
        if (pid > 1 && pid <= INT_MAX)
            end_one((int)pid, state_dir);
    }
    (void)unlink(path);
}

void sup_end_leftovers(const char *state_dir)
{
    end_those_of(state_dir, "status.killed"); /* ./devbox up has put it aside */
    end_those_of(state_dir, "status.json");
}

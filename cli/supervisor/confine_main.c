/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-confine: between the supervisor and a daemon.
 *
 *   devbox-confine --name NAME --uid N [--groups N,N] --root DIR [--show PATH]... [--own PATH]...
 * -- PROGRAM ARGS
 *
 * The program sees the system's folders read-only, what is shown of ours, the folders it owns, and
 * nothing else, all at the paths it always had; it runs as a user of its own without a capability,
 * and ends with the supervisor. Without root there is nothing to give up but new privileges. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cli/supervisor/view.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/ext/confine.h"

#define MAX_ID 0x7fffffffu
#define MAX_GROUPS 8

struct words {
    const char *name;
    struct view view;
    uint64_t uid; /* 0: stays who it is */
    gid_t groups[MAX_GROUPS];
    size_t n_groups;
};

extern char **environ;

static int parse_groups(struct words *w, const char *list, struct dbx_err *err)
{
    while (*list) {
        size_t len = strcspn(list, ",");
        uint64_t gid;
        if (w->n_groups == MAX_GROUPS || dbx_parse_u64(list, len, 1, MAX_ID, &gid) < 0)
            return dbx_err_field(err, "groups", "is not a list of numbers");
        w->groups[w->n_groups++] = (gid_t)gid;
        list += len + (list[len] == ',');
    }
    return 0;
}

static int take_word(struct words *w, const char *flag, const char *value, struct dbx_err *err)
{
    if (dbx_streq(flag, "--name"))
        w->name = value;
    else if (dbx_streq(flag, "--root"))
        w->view.root = value;
    else if (dbx_streq(flag, "--show"))
        view_add(&w->view, value, false);
    else if (dbx_streq(flag, "--own"))
        view_add(&w->view, value, true);
    else if (dbx_streq(flag, "--groups"))
        return parse_groups(w, value, err);
    else if (!dbx_streq(flag, "--uid"))
        return dbx_err_field(err, flag, "is unknown");
    else if (dbx_parse_u64(value, strlen(value), 1, MAX_ID, &w->uid) < 0)
        return dbx_err_field(err, "uid", "is not a number");
    return 0;
}

static int parse(struct words *w, int argc, char **argv, char ***ret_program, struct dbx_err *err)
{
    int i = 1;
    for (; i + 1 < argc && !dbx_streq(argv[i], "--"); i += 2) {
        int r = take_word(w, argv[i], argv[i + 1], err);
        if (r < 0)
            return r;
    }
    if (i + 1 >= argc || !dbx_streq(argv[i], "--") || !w->name || (w->uid && !w->view.root))
        return dbx_err_field(err, "words", "--name, --uid, --root, --, a program");
    *ret_program = argv + i + 1;
    return 0;
}

/* Of the environment only what is meant for this daemon, and what libraries go by. Files that it
 * names there are shown too: that is how an operator hands over a certificate. */
static void clean_environment(struct words *w)
{
    static const char *const kept[] = {
        "PATH=",        "LANG=",           "LC_",           "TZ=",
        "http_proxy=",  "https_proxy=",    "no_proxy=",     "all_proxy=",
        "HTTP_PROXY=",  "HTTPS_PROXY=",    "NO_PROXY=",     "ALL_PROXY=",
        "SSL_CERT_",    "CURL_CA_BUNDLE=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
        "LSAN_OPTIONS="};
    char ours[64];
    size_t n = 0;
    int len = snprintf(ours, sizeof(ours), "DEVBOX_%s_", w->name);
    for (int i = 7; i < len; i++)
        ours[i] = ours[i] == '-'                     ? '_'
                  : ours[i] >= 'a' && ours[i] <= 'z' ? (char)(ours[i] - 32)
                                                     : ours[i];
    for (char **e = environ; *e; e++) {
        bool keep = dbx_starts_with(*e, ours);
        for (size_t i = 0; !keep && i < DBX_ARRAY_LEN(kept); i++)
            keep = dbx_starts_with(*e, kept[i]);
        if (!keep)
            continue;
        const char *value = strchr(*e, '=');
        if (value && value[1] == '/' && !dbx_starts_with(*e, "PATH="))
            view_add(&w->view, value + 1, false);
        environ[n++] = *e;
    }
    environ[n] = NULL;
}

static int become(const struct words *w, struct dbx_err *err)
{
    gid_t gid = (gid_t)w->uid;
    uid_t uid = (uid_t)w->uid;
    int r = dbx_confine_bounding(0, err);
    if (r < 0)
        return r;
    if (setgroups(w->n_groups, w->groups) < 0 || setresgid(gid, gid, gid) < 0 ||
        setresuid(uid, uid, uid) < 0)
        return dbx_err_sys(err, "become user %u", uid);
    return dbx_confine_caps(0, err);
}

static int confine(struct words *w, struct dbx_err *err)
{
    pid_t parent = getppid();
    int r = 0;
    clean_environment(w);
    if (w->uid && geteuid() == 0) {
        r = view_enter(&w->view, (uid_t)w->uid, err);
        if (r == 0)
            r = become(w, err);
    }
    if (r < 0)
        return r;
    /* After the last change of user, which forgets it. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return dbx_err_sys(err, "end with the supervisor");
    return getppid() == parent ? 0
                               : dbx_err_set(err, -ESRCH, DBX_UNAVAIL, "the supervisor is gone");
}

int main(int argc, char **argv)
{
    struct words w = {0};
    struct dbx_err err = {0};
    char **program = NULL;
    dbx_log_init("confine", "logfmt", DBX_LOG_INFO);
    int r = parse(&w, argc, argv, &program, &err);
    if (r == 0)
        r = confine(&w, &err);
    if (r == 0) {
        execvp(program[0], program);
        (void)dbx_err_sys(&err, "start %s", program[0]);
    }
    dbx_log(DBX_LOG_ERR, NULL, "%s %s", err.field, err.msg);
    return 1;
}

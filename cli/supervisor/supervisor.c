/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/supervisor/supervisor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"

#define SOON_MS 2000u /* ending earlier than this after a start counts as a failure */
#define BACKOFF_MAX_MS 5000u
#define JOB_RETRY_MS 30000u
#define PROBE_MS 100u /* while something is not ready */
#define PROBE_CALM_MS 1000u
#define LOG_MAX_BYTES (64 << 20)

struct supervisor {
    struct dbx_loop *loop;
    struct dbx_http_client *http;
    char *state_dir;
    const char *bin_dir; /* borrowed */
    struct sup_service *services[SUP_MAX_SERVICES];
    size_t n;
    bool stopping;
    struct dbx_timer *probe_timer;
    bool all_ready;
};

static void service_start(struct sup_service *sv);
static void write_status(struct supervisor *s);

struct supervisor *sup_new(struct dbx_loop *loop, const char *state_dir, const char *bin_dir)
{
    struct supervisor *s = DBX_NEW(struct supervisor);
    s->loop = loop;
    s->state_dir = dbx_strdup(state_dir);
    s->bin_dir = bin_dir;
    s->http = dbx_http_client_new(loop);
    return s;
}

/* A job is a script, whose children are to end with it; a daemon ends its own. */
static void send_signal(const struct sup_service *sv, int signo)
{
    (void)kill(sv->kind == SUP_JOB ? -sv->pid : sv->pid, signo);
}

static void on_service_timer(void *user)
{
    struct sup_service *sv = user;
    if (!sv->stopping) {
        service_start(sv);
    } else if (sv->pid) {
        dbx_log(DBX_LOG_WARN, &sv->log, "still running %u ms after signal %d: killed", sv->stop_ms,
                sv->stop_signal);
        send_signal(sv, SIGKILL);
    }
}

struct sup_service *sup_add(struct supervisor *s, const char *name, const char *instance,
                            enum sup_kind kind, int stage)
{
    dbx_assert(s->n < SUP_MAX_SERVICES);
    struct sup_service *sv = DBX_NEW(struct sup_service);
    dbx_strcpy(sv->name, sizeof(sv->name), name);
    dbx_strcpy(sv->instance, sizeof(sv->instance), instance);
    sv->kind = kind;
    sv->stage = stage;
    sv->listen_fd = -1;
    sv->stop_signal = SIGTERM;
    sv->stop_ms = 10000;
    sv->sup = s;
    sv->timer = dbx_timer_new(s->loop, on_service_timer, sv);
    dbx_log_ctx_init(&sv->log, NULL, "daemon", instance);
    s->services[s->n++] = sv;
    return sv;
}

void sup_arg(struct sup_service *sv, const char *fmt, ...)
{
    va_list ap;
    char *arg = NULL;
    va_start(ap, fmt);
    dbx_assert(vasprintf(&arg, fmt, ap) >= 0);
    va_end(ap);
    dbx_assert(sv->argc + 1 < SUP_MAX_ARGS);
    sv->argv[sv->argc++] = arg;
}

void sup_user(struct sup_service *sv, uint32_t uid, const char *run_dir)
{
    sv->uid = uid;
    snprintf(sv->root, sizeof(sv->root), "%s/root", run_dir);
}

void sup_see(struct sup_service *sv, bool own, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    dbx_assert(sv->n_seen < SUP_MAX_SEEN);
    dbx_assert(vasprintf(&sv->seen[sv->n_seen].path, fmt, ap) >= 0);
    sv->seen[sv->n_seen++].own = own;
    va_end(ap);
}

static int listen_on(struct sockaddr *sa, socklen_t len, struct dbx_err *err, const char *host,
                     uint16_t port)
{
    int on = 1;
    DBX_CLEANUP(dbx_closep)
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return dbx_err_sys(err, "make a socket for %s", host);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, sa, len) < 0 || listen(fd, 4096) < 0)
        return dbx_err_sys(err, "listen on %s port %u (another DevBox? choose one with --port)",
                           host, port);
    return DBX_TAKE_FD(fd);
}

int sup_listen(struct sup_service *sv, const char *host, uint16_t port, bool tls,
               struct dbx_err *err)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v6 = inet_pton(AF_INET6, host, &v6.sin6_addr) == 1;
    if (!is_v6 && inet_pton(AF_INET, host, &v4.sin_addr) != 1)
        return dbx_err_field(err, "bind", "'%s' is not an address", host);
    struct sockaddr *sa = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t len = is_v6 ? sizeof(v6) : sizeof(v4);
    int fd = listen_on(sa, len, err, host, port);
    if (fd < 0)
        return fd;
    (void)getsockname(fd, sa, &len);
    sv->listen_fd = fd;
    snprintf(sv->url, sizeof(sv->url), is_v6 ? "%s://[%s]:%u" : "%s://%s:%u",
             tls ? "https" : "http", host, ntohs(is_v6 ? v6.sin6_port : v4.sin_port));
    return 0;
}

/* --- starting and ending one --- */

/* The daemon's own log file is its stdout and stderr; one that grew large is set aside at the next
 * start. */
static int open_log(const struct sup_service *sv)
{
    char path[PATH_MAX], old[PATH_MAX + 4];
    struct stat st;
    snprintf(path, sizeof(path), "%s/logs/%s.log", sv->sup->state_dir, sv->instance);
    snprintf(old, sizeof(old), "%s.1", path);
    if (stat(path, &st) == 0 && st.st_size > LOG_MAX_BYTES)
        (void)rename(path, old);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

/* The words of devbox-confine, and the service's own behind them. Numbers are the caller's. */
struct words {
    char *argv[16 + 2 * SUP_MAX_SEEN + SUP_MAX_ARGS];
    char program[PATH_MAX], uid[16], groups[32];
};

static void make_words(struct sup_service *sv, struct words *w)
{
    size_t n = 0;
    snprintf(w->program, sizeof(w->program), "%s/devbox-confine", sv->sup->bin_dir);
    snprintf(w->uid, sizeof(w->uid), "%u", sv->uid);
    snprintf(w->groups, sizeof(w->groups),
             sv->gids[1]   ? "%u,%u"
             : sv->gids[0] ? "%u"
                           : "",
             sv->gids[0], sv->gids[1]);
    char *const head[] = {w->program, "--name", sv->name,   "--uid",  w->uid,
                          "--root",   sv->root, "--groups", w->groups};
    if (sv->uid)
        for (size_t i = 0; i < DBX_ARRAY_LEN(head); i++)
            w->argv[n++] = head[i];
    for (size_t i = 0; sv->uid && i < sv->n_seen; i++) {
        w->argv[n++] = sv->seen[i].own ? "--own" : "--show";
        w->argv[n++] = sv->seen[i].path;
    }
    if (sv->uid)
        w->argv[n++] = "--";
    for (size_t i = 0; i < sv->argc; i++)
        w->argv[n++] = sv->argv[i];
    w->argv[n] = NULL;
}

static int spawn(struct sup_service *sv, int log_fd)
{
    struct words w;
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, log_fd, 1);
    posix_spawn_file_actions_adddup2(&fa, log_fd, 2);
    if (sv->listen_fd >= 0)
        posix_spawn_file_actions_adddup2(&fa, sv->listen_fd, 3);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    pid_t pid = 0;
    make_words(sv, &w);
    int r = posix_spawnp(&pid, w.argv[0], &fa, &attr, w.argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    return r ? -r : pid;
}

static uint32_t backoff_ms(uint32_t failures)
{
    if (failures < 3)
        return 0; /* at once: back-off is for what keeps dying */
    uint32_t ms = 100u << (failures - 3 < 6 ? failures - 3 : 6);
    return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

static void service_start(struct sup_service *sv)
{
    DBX_CLEANUP(dbx_closep) int log_fd = open_log(sv);
    int pid = log_fd < 0 ? -errno : spawn(sv, log_fd);
    sv->ready = false;
    if (pid < 0) {
        dbx_log(DBX_LOG_ERR, &sv->log, "cannot start %s: %s", sv->argv[0], strerror(-pid));
        dbx_timer_start(sv->timer, BACKOFF_MAX_MS, 0);
        return;
    }
    sv->pid = pid;
    sv->started_us = dbx_wall_us();
    sv->started_ms = dbx_now_ms();
    dbx_log(DBX_LOG_INFO, &sv->log, "started, pid %d", pid);
    write_status(sv->sup);
    dbx_timer_start(sv->sup->probe_timer, 20, 0);
}

static void stop_next_stage(struct supervisor *s);

static void on_exit_of(struct sup_service *sv, int status)
{
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    uint64_t lived = dbx_now_ms() - sv->started_ms;
    dbx_log(ok || sv->stopping ? DBX_LOG_INFO : DBX_LOG_WARN, &sv->log, "%s %d after %llu ms",
            WIFSIGNALED(status) ? "ended by signal" : "exited with",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
            (unsigned long long)lived);
    sv->pid = 0;
    sv->ready = false;
    if (sv->stopping) {
        dbx_timer_stop(sv->timer);
        stop_next_stage(sv->sup);
    } else if (sv->sup->stopping) {
        sv->stopping = true; /* by itself, before its turn: it stays down */
    } else if (sv->kind == SUP_JOB) {
        if (!ok)
            dbx_timer_start(sv->timer, JOB_RETRY_MS, 0);
    } else {
        sv->restarts++;
        sv->failures = lived < SOON_MS ? sv->failures + 1 : 0;
        dbx_timer_start(sv->timer, backoff_ms(sv->failures), 0);
    }
    write_status(sv->sup);
}

static void on_sigchld(void *user, int signo)
{
    struct supervisor *s = user;
    (void)signo;
    for (size_t i = 0; i < s->n; i++) {
        int status;
        if (s->services[i]->pid &&
            waitpid(s->services[i]->pid, &status, WNOHANG) == s->services[i]->pid)
            on_exit_of(s->services[i], status);
    }
}

/* --- readiness and status --- */

static bool is_daemon(const struct sup_service *sv)
{
    return sv->kind == SUP_DAEMON;
}

static void set_ready(struct sup_service *sv, bool ready)
{
    if (sv->ready == ready)
        return;
    sv->ready = ready;
    dbx_log(DBX_LOG_INFO, &sv->log, ready ? "ready" : "not ready");
    write_status(sv->sup);
}

static void on_probe(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct sup_service *sv = user;
    (void)f;
    int asked = sv->probed_pid;
    sv->probed_pid = 0;
    if (!sv->sup->stopping && sv->pid && sv->pid == asked) /* not the one before it */
        set_ready(sv, result->status == 200);
}

static void probe_one(struct sup_service *sv)
{
    char url[160];
    if (!sv->url[0]) { /* has no door of its own: those that need it say so */
        set_ready(sv, true);
        return;
    }
    snprintf(url, sizeof(url), "%s/readyz", sv->url);
    struct dbx_fetch_opts o = {.url = url, .timeout_ms = 2000, .insecure = true};
    sv->probed_pid = sv->pid;
    dbx_fetch(sv->sup->http, &o, on_probe, sv);
}

static void probe(void *user)
{
    struct supervisor *s = user;
    bool calm = true;
    if (s->stopping)
        return;
    for (size_t i = 0; i < s->n; i++) {
        struct sup_service *sv = s->services[i];
        if (!is_daemon(sv))
            continue;
        calm = calm && sv->ready;
        if (sv->pid && !sv->probed_pid)
            probe_one(sv);
    }
    dbx_timer_start(s->probe_timer, calm ? PROBE_CALM_MS : PROBE_MS, 0);
}

static void write_service(struct dbx_jw *w, const struct sup_service *sv)
{
    char started[25];
    dbx_format_time(sv->started_us, started);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "name", sv->name);
    dbx_jw_ki64(w, "pid", sv->pid);
    dbx_jw_kstr(w, "url", sv->url[0] ? sv->url : NULL);
    dbx_jw_kstr(w, "started_at", started);
    dbx_jw_ki64(w, "restarts", sv->restarts);
    dbx_jw_kbool(w, "ready", sv->ready);
    dbx_jw_object_end(w);
}

static void write_status(struct supervisor *s)
{
    struct dbx_buf out;
    char path[PATH_MAX];
    struct dbx_err err = {0};
    bool ready = !s->stopping;
    dbx_buf_init(&out, 1 << 20);
    struct dbx_jw *w = dbx_jw_new(&out);
    for (size_t i = 0; i < s->n; i++)
        ready =
            ready && (!is_daemon(s->services[i]) || (s->services[i]->pid && s->services[i]->ready));
    dbx_jw_object(w);
    dbx_jw_kstr(w, "version", DBX_VERSION);
    dbx_jw_kbool(w, "ready", ready);
    dbx_jw_key(w, "daemons");
    dbx_jw_array(w);
    for (size_t i = 0; i < s->n; i++)
        if (s->services[i]->pid && is_daemon(s->services[i]))
            write_service(w, s->services[i]);
    dbx_jw_array_end(w);
    dbx_jw_object_end(w);
    snprintf(path, sizeof(path), "%s/status.json", s->state_dir);
    if (dbx_jw_end(&w) < 0 || dbx_buf_str(&out, "\n") < 0 ||
        dbx_fs_write_atomic(path, out.data, out.len, 0644, &err) < 0)
        dbx_log(DBX_LOG_ERR, NULL, "cannot write the status: %s", err.msg);
    dbx_buf_done(&out);
    if (ready != s->all_ready)
        dbx_log(DBX_LOG_INFO, NULL, ready ? "all daemons are ready" : "not all daemons are ready");
    s->all_ready = ready;
}

/* --- all of them --- */

void sup_start(struct supervisor *s)
{
    s->probe_timer = dbx_timer_new(s->loop, probe, s);
    dbx_loop_on_signal(s->loop, SIGCHLD, on_sigchld, s);
    for (size_t i = 0; i < s->n; i++)
        service_start(s->services[i]);
}

/* Signals the highest stage that still runs; called again when one of it has ended. */
static void stop_next_stage(struct supervisor *s)
{
    int stage = -1;
    for (size_t i = 0; i < s->n; i++)
        if (s->services[i]->pid && s->services[i]->stage > stage)
            stage = s->services[i]->stage;
    if (stage < 0) {
        dbx_loop_stop(s->loop, 0);
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        struct sup_service *sv = s->services[i];
        if (sv->stage != stage || !sv->pid || sv->stopping)
            continue;
        sv->stopping = true;
        send_signal(sv, sv->stop_signal);
        dbx_timer_start(sv->timer, sv->stop_ms, 0);
    }
}

void sup_stop(struct supervisor *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    for (size_t i = 0; i < s->n; i++) {
        dbx_timer_stop(s->services[i]->timer);
        s->services[i]->stopping = !s->services[i]->pid;
    }
    write_status(s);
    stop_next_stage(s);
}

void sup_close(struct supervisor *s)
{
    s->stopping = true;
    for (size_t i = 0; i < s->n; i++)
        s->services[i]->timer = dbx_timer_free(s->services[i]->timer);
    s->probe_timer = dbx_timer_free(s->probe_timer);
    s->http = dbx_http_client_free(s->http);
}

struct supervisor *sup_free(struct supervisor *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->n; i++) {
        struct sup_service *sv = s->services[i];
        for (size_t k = 0; k < sv->argc; k++)
            free(sv->argv[k]);
        for (size_t k = 0; k < sv->n_seen; k++)
            free(sv->seen[k].path);
        dbx_close(sv->listen_fd);
        free(sv);
    }
    free(s->state_dir);
    free(s);
    return NULL;
}

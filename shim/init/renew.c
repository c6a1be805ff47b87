/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox is made as new for the next program of its batch (RENEW in protocol.h). Nothing is
 * taken back for which init would need more rights than it has: what a program leaves is removed
 * with that program's own effective uid, when it has no process any more. What cannot be removed
 * so, or leaves traces elsewhere (System V IPC, queues, TCP), is an error, and the shim ends the
 * sandbox. */
#include "shim/init/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define RENEW_US 6000000u
#define ALONE_US 2000000u

static const char *const temporary[] = {"/tmp", "/var/tmp", "/dev/shm"};

void init_kill_runner(const struct init *in)
{
    uid_t uid = in->pristine.uid;
    pid_t pid = uid ? fork() : -1;
    if (pid)
        return; /* reaped as any orphan */
    if (setresuid(uid, uid, uid) == 0)
        (void)kill(-1, SIGKILL);
    _exit(0);
}

static void answer(struct init *in, int error, const char *where)
{
    struct init_header h = {.op = INIT_RENEW, .tag = in->renew.tag};
    in->renew.step = RENEW_NOT;
    init_done(in, &h, error, 0, where);
}

/* ---- what cannot be wiped ---- */

static int check_ipc(void)
{
    struct shm_info shm = {0};
    struct seminfo sem = {0};
    struct msginfo msg = {0};
    union {
        int value;
        struct seminfo *info;
    } arg = {.info = &sem};
    if (shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&shm) < 0 ||
        semctl(0, 0, SEM_INFO, arg) < 0 || msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&msg) < 0)
        return errno;
    return shm.used_ids || sem.semusz || msg.msgpool ? ENOTRECOVERABLE : 0;
}

static int check_queues(void)
{
    DIR *dir = opendir("/dev/mqueue");
    if (!dir)
        return errno;
    int error = 0;
    for (struct dirent *e; !error && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            error = ENOTRECOVERABLE;
    closedir(dir);
    return error;
}

/* A port that was used may be held for a minute. */
static int read_opens(uint64_t *ret)
{
    char text[4096];
    int fd = open("/proc/net/snmp", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return EIO;
    text[n] = 0;
    const char *values = strstr(text, "\nTcp: ");
    values = values ? strstr(values + 1, "\nTcp: ") : NULL;
    if (!values)
        return EIO;
    char *at = (char *)values + 6;
    uint64_t sum = 0;
    for (int i = 0; i < 6; i++) { /* four that do not change, ActiveOpens, PassiveOpens */
        long long value = strtoll(at, &at, 10);
        sum += i >= 4 ? (uint64_t)value : 0;
    }
    *ret = sum;
    return 0;
}

static int check_rest(struct init *in)
{
    struct pristine *was = &in->pristine;
    struct statfs fs;
    uint64_t opens = 0;
    int error = check_ipc();
    if (!error)
        error = check_queues();
    if (!error)
        error = read_opens(&opens);
    if (!error && statfs("/", &fs) < 0)
        error = errno;
    if (error)
        return error;
    uint64_t room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    if (!was->known) {
        was->known = true;
        was->free = room;
        was->opens = opens;
    }
    return room < was->free || opens != was->opens ? ENOTRECOVERABLE : 0;
}

/* ---- what can ---- */

static int wipe_of(struct init *in, uid_t uid)
{
    struct renew *rn = &in->renew;
    int error = seteuid(uid) < 0 ? errno : 0;
    if (!error)
        error = init_wipe_tree(rn->work, uid);
    if (!error)
        error = init_wipe_tree(rn->home, uid);
    for (size_t i = 0; !error && i < sizeof(temporary) / sizeof(*temporary); i++)
        error = init_wipe_tree(temporary[i], uid);
    if (seteuid(0) < 0)
        _exit(70); /* init without its identity is of no use */
    return error;
}

/* A folder that never was anybody else's: mode, times and attributes are gone with the old one. */
static int make_work(const struct renew *rn)
{
    if (rmdir(rn->work) < 0 || mkdir(rn->work, 0755) < 0 || chown(rn->work, rn->uid, rn->gid) < 0)
        return errno;
    return 0;
}

static int wipe(struct init *in)
{
    static const struct timespec long_ago[2] = {{0}, {0}};
    struct renew *rn = &in->renew;
    int error = 0;
    if (!in->pristine.uid)
        error = init_wipe_share(rn->home);
    else
        error = wipe_of(in, in->pristine.uid);
    for (size_t i = 0; i < sizeof(temporary) / sizeof(*temporary); i++)
        (void)utimensat(AT_FDCWD, temporary[i], long_ago, 0);
    (void)utimensat(AT_FDCWD, rn->home, long_ago, 0);
    if (!error)
        error = make_work(rn);
    if (!error)
        error = init_name_user(rn->home, rn->uid, rn->gid);
    return error ? error : check_rest(in);
}

/* ---- the steps ---- */

static const char *home_of(const struct init_start_request *req)
{
    for (char **e = req->env; *e; e++)
        if (!strncmp(*e, "HOME=/", 6))
            return *e + 5;
    return NULL;
}

static int begin(struct init *in, const struct init_start_request *req)
{
    struct renew *rn = &in->renew;
    const char *home = home_of(req);
    if (!in->pid1 || !(in->features & INIT_CAN_COUNT))
        return ENOTSUP;
    if (rn->step || init_running(in))
        return EBUSY;
    if (req->fixed.uid < INIT_FIRST_UID || req->fixed.uid <= in->pristine.uid || !home ||
        strlen(home) >= sizeof(rn->home) || strlen(req->cwd) >= sizeof(rn->work))
        return EINVAL;
    *rn = (struct renew){.step = RENEW_ALONE,
                         .until_us = init_now_us() + RENEW_US,
                         .uid = req->fixed.uid,
                         .gid = req->fixed.gid,
                         .argc = req->fixed.argc,
                         .fork = req->fixed.fds & INIT_FORK};
    memcpy(rn->home, home, strlen(home) + 1);
    memcpy(rn->work, req->cwd, strlen(req->cwd) + 1);
    init_park_program(in, req);
    init_unpark(in);
    return rn->fork && !in->server.pid ? init_server_start(in, req) : 0;
}

void init_renew(struct init *in, const struct init_header *h, const uint8_t *body, size_t len)
{
    struct init_start_request req = {.argv = in->argv, .env = in->env};
    int error = init_decode_start(body, len, &req);
    if (!error)
        error = begin(in, &req);
    in->look = true;
    if (!error) {
        in->renew.tag = h->tag;
        return;
    }
    if (error != EBUSY)
        in->renew.step = RENEW_NOT;
    init_done(in, h, error, 0, "renew");
}

static int step(struct init *in)
{
    struct renew *rn = &in->renew;
    int error = 0;
    if (rn->fork && in->server.sock <= 0)
        return ECHILD;
    if (rn->step == RENEW_ALONE && (!rn->fork || in->server.ready)) { /* it finds out where it is */
        if (in->killing || init_others(in) > 0) {
            init_kill_runner(in);
            return init_now_us() + RENEW_US > rn->until_us + ALONE_US ? ETIMEDOUT : 0;
        }
        error = wipe(in);
        in->pristine.uid = rn->uid;
        rn->step = RENEW_CLEAN;
    }
    if (!error && rn->step == RENEW_CLEAN && rn->fork) {
        error = init_park_forked(in);
        rn->step = RENEW_PARKED;
    }
    return error;
}

static bool through(const struct init *in)
{
    const struct renew *rn = &in->renew;
    return rn->fork ? rn->step == RENEW_PARKED && in->parked.ready && in->parked.pid
                    : rn->step == RENEW_CLEAN;
}

void init_renew_turn(struct init *in)
{
    static const char *const words[] = {"", "alone", "clean", "parked"};
    struct renew *rn = &in->renew;
    enum renew_step at = rn->step;
    int error = step(in);
    if (!error && rn->step && !through(in) && init_now_us() > rn->until_us)
        error = ETIMEDOUT;
    if (error)
        answer(in, error, words[at]);
    else if (through(in))
        answer(in, 0, "");
}

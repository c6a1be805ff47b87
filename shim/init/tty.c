/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals. The pair is made in here: a slave of the host would be no terminal to programs in the
 * sandbox. The program leads the session and holds the slave alone; init has the master, and
 * carries bytes between it and two pipes of the host.
 *
 * Each way has a buffer, and is read from only when that is empty: so a program is held back when
 * nobody reads at the host, and who types is held back when the program does not read. A descriptor
 * that nothing is wanted of is out of the epoll set, for a hang-up is told whether wanted or not.
 *
 * A terminal ends with its leader: what the master still holds is carried out, then it is closed,
 * and who is left of the session is told by SIGHUP, as when a line is cut. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ROUNDS_MAX 16 /* pieces in one turn of the loop */

/* --- what is waited for --- */

static void want(struct init *in, struct tty *t, enum tty_fd which, uint32_t events)
{
    uint32_t id = INIT_TTY_EVENTS + (uint32_t)(t - in->ttys) * TTY_FDS + which;
    struct epoll_event ev = {.events = events, .data.u32 = id};
    if (t->fd[which] < 0 || t->wanted[which] == events)
        return;
    int op = !events ? EPOLL_CTL_DEL : t->wanted[which] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(in->epoll, op, t->fd[which], &ev) == 0)
        t->wanted[which] = events;
}

static void rearm(struct init *in, struct tty *t)
{
    uint32_t master = (t->out.len == 0 ? EPOLLIN : 0u) | (t->in.len > 0 ? EPOLLOUT : 0u);
    want(in, t, TTY_MASTER, master);
    want(in, t, TTY_IN, t->in.len == 0 ? EPOLLIN : 0);
    want(in, t, TTY_OUT, t->out.len > 0 ? EPOLLOUT : 0);
}

static void shut(struct init *in, struct tty *t, enum tty_fd which)
{
    if (t->fd[which] < 0)
        return;
    want(in, t, which, 0);
    close(t->fd[which]);
    t->fd[which] = -1;
}

static void tty_close(struct init *in, struct tty *t)
{
    for (int i = 0; i < TTY_FDS; i++)
        shut(in, t, (enum tty_fd)i);
    t->open = false;
}

/* --- the session --- */

struct session_signal {
    pid_t session;
    int signo;
};

static void signal_one(const struct init_folder_entry *e, void *user)
{
    const struct session_signal *s = user;
    pid_t pid = 0;
    for (const char *c = e->name; *c; c++) {
        if (*c < '0' || *c > '9' || pid > INT32_MAX / 10 - 1)
            return;
        pid = pid * 10 + (*c - '0');
    }
    if (pid <= 1 || getsid(pid) != s->session)
        return;
    (void)kill(pid, s->signo);
    if (s->signo == SIGHUP)
        (void)kill(pid, SIGCONT); /* one that is stopped is to hear it too */
}

void init_signal_session(pid_t session, int signo)
{
    struct session_signal s = {session, signo};
    init_each_entry("/proc", signal_one, &s);
}

static void hang_up(struct init *in, struct tty *t)
{
    pid_t leader = t->leader;
    tty_close(in, t);
    init_signal_session(leader, SIGHUP);
}

/* --- making one --- */

static int set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int open_slave(int master)
{
    int unlocked = 0, n = 0;
    char name[32];
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0 || ioctl(master, TIOCGPTN, &n) < 0)
        return -1;
    snprintf(name, sizeof(name), "/dev/pts/%d", n);
    return open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

/* As its user: to whom opens the master belongs the slave, and root without capabilities may not
 * open what is his. Returns 0 or errno. */
static int open_pair(const struct init_start *f, int *ret_master, int *ret_slave)
{
    bool switched = geteuid() == 0;
    int slave = -1, error = 0;
    if (switched && (setegid(f->gid) < 0 || seteuid(f->uid) < 0))
        return errno;
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0 || (slave = open_slave(master)) < 0)
        error = errno;
    if (switched && (seteuid(0) < 0 || setegid(0) < 0))
        _exit(70); /* init without its identity is of no use */
    if (error && master >= 0)
        close(master);
    *ret_master = master;
    *ret_slave = slave;
    return error;
}

static struct tty *find_free(struct init *in)
{
    for (size_t i = 0; i < INIT_MAX_TTYS; i++)
        if (!in->ttys[i].open)
            return &in->ttys[i];
    return NULL;
}

int init_tty_open(struct init *in, const struct init_start *f, const struct init_winsize *size,
                  int *fds, struct tty **ret)
{
    struct tty *t = find_free(in);
    struct winsize ws = {.ws_col = size->cols, .ws_row = size->rows};
    int master = -1, slave = -1, again;
    int error = t ? open_pair(f, &master, &slave) : EAGAIN;
    if (error)
        return error;
    if (ioctl(master, TIOCSWINSZ, &ws) < 0 || set_nonblock(fds[0]) < 0 ||
        set_nonblock(fds[1]) < 0 || (again = fcntl(slave, F_DUPFD_CLOEXEC, 3)) < 0) {
        error = errno;
        close(master);
        close(slave);
        return error;
    }
    *t = (struct tty){.open = true, .key = f->key, .fd = {master, fds[0], fds[1]}};
    fds[0] = slave;
    fds[1] = again;
    *ret = t;
    return 0;
}

void init_tty_began(struct init *in, struct tty *t, pid_t leader)
{
    t->leader = leader;
    rearm(in, t);
}

void init_tty_failed(struct init *in, struct tty *t)
{
    tty_close(in, t);
}

/* --- bytes --- */

/* Moves one piece into or out of the buffer: false when nothing can be moved now. *broken: nothing
 * ever will be. */
static bool fill(int fd, struct tty_buffer *b, bool *broken)
{
    if (fd < 0 || b->len > 0)
        return false;
    ssize_t n = read(fd, b->data, sizeof(b->data));
    if (n > 0) {
        b->at = 0;
        b->len = (uint16_t)n;
        return true;
    }
    *broken = n == 0 || (errno != EAGAIN && errno != EINTR);
    return false;
}

static void skip(struct tty_buffer *b, size_t n)
{
    b->at = (uint16_t)(b->at + n);
    b->len = (uint16_t)(b->len - n);
}

/* max: of what waits, not more in this write. */
static bool drain(int fd, struct tty_buffer *b, size_t max, bool *broken)
{
    if (fd < 0 || b->len == 0)
        return false;
    ssize_t n = write(fd, b->data + b->at, max);
    if (n > 0) {
        skip(b, (size_t)n);
        return true;
    }
    *broken = n < 0 && errno != EAGAIN && errno != EINTR;
    return false;
}

/* --- keys that signal --- */

static bool is_signal(const struct termios *tio, uint8_t byte)
{
    return (tio->c_lflag & ISIG) && byte != _POSIX_VDISABLE &&
           (byte == tio->c_cc[VINTR] || byte == tio->c_cc[VQUIT] || byte == tio->c_cc[VSUSP]);
}

static void echo(const struct termios *tio, uint8_t byte, struct tty_buffer *out)
{
    if (out->len == 0)
        out->at = 0;
    size_t end = (size_t)out->at + out->len;
    if ((~tio->c_lflag & (ECHO | ECHOCTL)) != 0 || end + 2 > sizeof(out->data))
        return;
    out->data[end] = '^';
    out->data[end + 1] = byte ^ 0100;
    out->len = (uint16_t)(out->len + 2);
}

/* How much of the input goes in one write: up to a key that signals, or that key alone. It takes
 * with it what was typed before and is not read yet, and shows itself (NOFLSH and ECHOCTL in
 * termios(3)). gVisor does neither, and would keep the key behind a line that nobody reads: who has
 * typed ahead could not interrupt any more (with NOFLSH he still cannot). */
static size_t next_piece(struct tty *t)
{
    const uint8_t *data = t->in.data + t->in.at;
    struct termios tio;
    size_t n = 0;
    if (t->in.len == 0 || t->fd[TTY_MASTER] < 0 || tcgetattr(t->fd[TTY_MASTER], &tio) < 0)
        return t->in.len;
    while (n < t->in.len && !is_signal(&tio, data[n]))
        n++;
    if (n == t->in.len || (n > 0 && (tio.c_lflag & NOFLSH)))
        return n;
    if (!(tio.c_lflag & NOFLSH)) {
        skip(&t->in, n);
        (void)ioctl(t->fd[TTY_MASTER], TCFLSH, TCOFLUSH);
    }
    echo(&tio, data[n], &t->out);
    return 1;
}

/* --- moving --- */

/* One round each way. */
static bool move(struct init *in, struct tty *t, bool *ret_dry)
{
    bool at_end = false, deaf = false, eof = false, gone = false;
    bool moved = fill(t->fd[TTY_IN], &t->in, &eof);
    moved |= drain(t->fd[TTY_MASTER], &t->in, next_piece(t), &deaf);
    bool out = fill(t->fd[TTY_MASTER], &t->out, &at_end);
    *ret_dry = !out && t->out.len == 0;
    moved |= out | drain(t->fd[TTY_OUT], &t->out, t->out.len, &gone);
    if (eof)
        shut(in, t, TTY_IN);
    if (deaf)
        t->in.len = 0;
    if (at_end && !t->ending) /* no slave is open: its leader ends, or has closed them all */
        t->idle = true;
    if (gone)
        hang_up(in, t);
    return moved && t->open;
}

static void turn(struct init *in, struct tty *t)
{
    bool dry = false;
    t->idle = false;
    for (int i = 0; i < ROUNDS_MAX; i++)
        if (!move(in, t, &dry))
            break;
    if (!t->open)
        return;
    if (t->ending && dry && t->out.len == 0) {
        hang_up(in, t);
        return;
    }
    rearm(in, t);
    if (t->idle) /* it would be told again and again; the leader's end wakes it */
        want(in, t, TTY_MASTER, 0);
}

void init_tty_turn(struct init *in, uint32_t id)
{
    struct tty *t = &in->ttys[id / TTY_FDS];
    if (t->open)
        turn(in, t);
}

/* --- what the shim says of it --- */

static struct tty *find(struct init *in, const struct init_key *key)
{
    for (size_t i = 0; i < INIT_MAX_TTYS; i++)
        if (in->ttys[i].open && !memcmp(&in->ttys[i].key, key, sizeof(*key)))
            return &in->ttys[i];
    return NULL;
}

bool init_has_tty(struct init *in, const struct init_key *key)
{
    return find(in, key) != NULL;
}

void init_tty_leader_ended(struct init *in, const struct init_key *key)
{
    struct tty *t = find(in, key);
    if (!t)
        return;
    t->ending = true;
    shut(in, t, TTY_IN);
    t->in.len = 0;
    turn(in, t);
}

int init_tty_resize(struct init *in, const struct init_resize *r)
{
    const struct winsize ws = {.ws_col = r->size.cols, .ws_row = r->size.rows};
    struct tty *t = find(in, &r->key);
    if (!t)
        return ENOTTY;
    return ioctl(t->fd[TTY_MASTER], TIOCSWINSZ, &ws) < 0 ? errno : 0;
}

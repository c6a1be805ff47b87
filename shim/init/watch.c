/* SPDX-License-Identifier: Apache-2.0 */
/* What programs do to the files of a folder, told to the shim through a pipe (init_change). inotify
 * says that something happened to a name; what is told is what stands there when its turn comes,
 * 100 ms later: so a file that is written all the time is told ten times a second, whole.
 * Everything is done with the user's identity and never through a link.
 *
 * Bounded: so many folders, so many names that wait, one file at a time in memory. When names do
 * not fit the tree is looked at as a whole again, once those that wait are told; what has vanished
 * meanwhile is then not heard of, and LOST says so. */
#include "shim/init/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MAX_FOLDERS 1024
#define MAX_NAMES 1024
#define MAX_FILE (1u << 20)
#define QUIET_MS 100
#define MASK                                                                                       \
    (IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR |    \
     IN_DONT_FOLLOW)

#define MAX_OWN 2048

/* What the shim knows to stand at a path, for it wrote that or was told it; by the path's hash.
 * Several may share a place: the last counts. Who touches a file, writes the same once more or puts
 * the same in its place has changed nothing. The hash of the content is against chance, not against
 * the user: who makes two contents of one hash keeps his own change from the record. */
struct own {
    uint64_t hash;
    uint64_t epoch; /* w.epoch: it counts */
    bool there, folder;
    bool stated; /* ino and written are those of a write of the shim's */
    ino_t ino;
    uint64_t size, content;
    struct timespec written;
};

struct name {
    bool listed;  /* nothing is known to have happened to it: all was to be told */
    bool skipped; /* a write of the shim's was not done, for a program's was not told yet */
    bool folder;  /* it was one when something happened to it */
    char path[INIT_MAX_PATH + 1];
};

static struct {
    bool on, armed, rescan, lost, said_rest, fenced, listing;
    unsigned fences; /* to be told */
    uid_t uid;
    gid_t gid;
    int ino, out, timer;
    bool waits; /* the pipe is full */
    char root[256];
    char ignored[INIT_MAX_IGNORED];
    size_t ignored_len;
    size_t n_folders, n_names;
    struct {
        int wd;
        char path[INIT_MAX_PATH + 1];
    } folders[MAX_FOLDERS];
    struct name names[MAX_NAMES];
    uint64_t epoch; /* never 0 */
    struct own own[MAX_OWN];
    size_t at, len; /* of frame: told, and to tell */
    uint8_t frame[sizeof(struct init_change) + INIT_MAX_PATH + MAX_FILE];
} w; /* zeros only: else its 3 MiB stood in the program, and in the memory of each sandbox */

void init_watch_boot(void)
{
    w.ino = w.out = w.timer = -1;
}

/* --- identity --- */

static bool become_user(void)
{
    return geteuid() != 0 || (setegid(w.gid) == 0 && seteuid(w.uid) == 0);
}

static void become_init(bool was_root)
{
    if (was_root && (seteuid(0) < 0 || setegid(0) < 0))
        _exit(70); /* init without its identity is of no use */
}

/* --- names --- */

static bool is_ignored(const char *name)
{
    for (size_t i = 0; i < w.ignored_len; i += strlen(w.ignored + i) + 1)
        if (!strcmp(w.ignored + i, name))
            return true;
    return false;
}

/* Of one that fits, as all do that join made. */
static void copy_path(char out[INIT_MAX_PATH + 1], const char *path)
{
    size_t len = strnlen(path, INIT_MAX_PATH);
    memcpy(out, path, len);
    out[len] = 0;
}

static bool join(char *out, const char *folder, const char *name)
{
    int n = snprintf(out, INIT_MAX_PATH + 1, "%s%s%s", folder, *folder ? "/" : "", name);
    return n > 0 && n <= INIT_MAX_PATH;
}

static bool below(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    return !strncmp(path, folder, len) && path[len] == '/';
}

static struct name *find_name(const char *path)
{
    for (size_t i = 0; i < w.n_names; i++)
        if (!strcmp(w.names[i].path, path))
            return &w.names[i];
    return NULL;
}

static void note(const char *path, bool folder)
{
    struct name *known = find_name(path);
    if (known) {
        known->folder |= folder;
        known->listed = known->listed && w.listing;
        return;
    }
    if (w.n_names == MAX_NAMES) {
        w.rescan = w.lost = true;
        return;
    }
    struct name *n = &w.names[w.n_names++];
    n->skipped = false;
    n->folder = folder;
    n->listed = w.listing;
    copy_path(n->path, path);
}

/* --- folders --- */

static void full_path(char *out, size_t size, const char *path)
{
    snprintf(out, size, "%s%s%s", w.root, *path ? "/" : "", path);
}

static void watch_folder(const char *path)
{
    char full[sizeof(w.root) + INIT_MAX_PATH + 2];
    if (w.n_folders == MAX_FOLDERS) {
        w.lost = true;
        return;
    }
    full_path(full, sizeof(full), path);
    int wd = inotify_add_watch(w.ino, full, MASK);
    if (wd < 0)
        return;
    for (size_t i = 0; i < w.n_folders; i++)
        if (w.folders[i].wd == wd) {
            copy_path(w.folders[i].path, path);
            return;
        }
    w.folders[w.n_folders].wd = wd;
    copy_path(w.folders[w.n_folders++].path, path);
}

struct listing {
    const char *folder;
    bool tell;
};

static void see_entry(const struct init_folder_entry *e, void *user)
{
    const struct listing *l = user;
    char path[INIT_MAX_PATH + 1];
    if (!strcmp(e->name, ".") || !strcmp(e->name, "..") || is_ignored(e->name) ||
        !join(path, l->folder, e->name))
        return;
    if (e->type == DT_DIR)
        watch_folder(path);
    if (l->tell && (e->type == DT_DIR || e->type == DT_REG))
        note(path, e->type == DT_DIR);
}

static void list_folder(const char *folder, bool tell)
{
    char full[sizeof(w.root) + INIT_MAX_PATH + 2];
    struct listing l = {folder, tell};
    full_path(full, sizeof(full), folder);
    init_each_entry(full, see_entry, &l);
}

/* Watches a folder and all below: who is found is put behind, and looked into in its turn. */
static void scan(const char *path, bool tell)
{
    size_t i = w.n_folders;
    watch_folder(path);
    for (; i < w.n_folders; i++) {
        char folder[INIT_MAX_PATH + 1];
        copy_path(folder, w.folders[i].path);
        list_folder(folder, tell);
    }
}

static void forget_folder(const char *path)
{
    for (size_t i = 0; i < w.n_folders;) {
        if (strcmp(w.folders[i].path, path) != 0 && !below(w.folders[i].path, path)) {
            i++;
            continue;
        }
        (void)inotify_rm_watch(w.ino, w.folders[i].wd);
        w.folders[i] = w.folders[--w.n_folders];
    }
}

/* --- events --- */

static void on_event(const struct inotify_event *e)
{
    char path[INIT_MAX_PATH + 1];
    const char *folder = NULL;
    if (e->mask & IN_Q_OVERFLOW) {
        w.rescan = w.lost = true;
        return;
    }
    for (size_t i = 0; i < w.n_folders && !folder; i++)
        if (w.folders[i].wd == e->wd)
            folder = w.folders[i].path;
    if (!folder || !e->len || is_ignored(e->name) || !join(path, folder, e->name))
        return;
    if (e->mask & IN_ISDIR && e->mask & (IN_DELETE | IN_MOVED_FROM))
        forget_folder(path);
    if (e->mask & IN_ISDIR && e->mask & IN_ATTRIB)
        return;
    note(path, e->mask & IN_ISDIR);
    if (e->mask & IN_ISDIR && e->mask & (IN_CREATE | IN_MOVED_TO))
        scan(path, true);
}

static void read_events(void)
{
    uint8_t room[8192] __attribute__((aligned(8)));
    ssize_t n;
    while ((n = read(w.ino, room, sizeof(room))) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *e = (const void *)(room + at);
            on_event(e);
            at += (ssize_t)(sizeof(*e) + e->len);
        }
}

/* --- what the shim knows --- */

#define HASH_BEGIN 14695981039346656037u

/* As FNV-1a, eight bytes at a time; of what comes in pieces all but the last are whole words. */
static uint64_t hash_of(uint64_t hash, const uint8_t *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        hash = (hash ^ word) * 1099511628211u;
        hash ^= hash >> 32;
    }
    for (; len; data++, len--)
        hash = (hash ^ *data) * 1099511628211u;
    return hash;
}

static uint64_t hash_of_path(const char *path)
{
    return hash_of(HASH_BEGIN, (const uint8_t *)path, strlen(path));
}

static struct own *own_of(uint64_t hash)
{
    return &w.own[hash % MAX_OWN];
}

static void know(const char *path, struct own now)
{
    now.hash = hash_of_path(path);
    now.epoch = w.epoch;
    *own_of(now.hash) = now;
}

static void forget_own(void)
{
    w.epoch++;
}

static void know_nothing(const char *path)
{
    own_of(hash_of_path(path))->epoch = 0;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_content(const char *full, const struct own *was)
{
    uint8_t room[16384];
    uint64_t hash = HASH_BEGIN, size = 0;
    int fd = open(full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && size <= was->size) {
        size_t got = 0;
        while (got < sizeof(room) && (n = read(fd, room + got, sizeof(room) - got)) > 0)
            got += (size_t)n;
        hash = hash_of(hash, room, got);
        size += got;
    }
    if (fd >= 0)
        close(fd);
    return n == 0 && size == was->size && hash == was->content;
}

/* Whether what stands there is what the shim knows: then nothing has happened to a name that
 * waits. */
static bool untouched(const char *path)
{
    char full[sizeof(w.root) + INIT_MAX_PATH + 2];
    uint64_t hash = hash_of_path(path);
    const struct own *was = own_of(hash);
    struct stat st;
    if (was->epoch != w.epoch || was->hash != hash)
        return false;
    full_path(full, sizeof(full), path);
    if (lstat(full, &st) < 0)
        return !was->there && errno == ENOENT;
    if (!was->there || was->folder || S_ISDIR(st.st_mode))
        return was->there && was->folder && S_ISDIR(st.st_mode);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != was->size)
        return false;
    return (was->stated && st.st_ino == was->ino && same_time(st.st_mtim, was->written)) ||
           same_content(full, was);
}

/* --- telling --- */

static void begin_frame(uint16_t kind, uint16_t flags, const char *path, uint64_t size)
{
    struct init_change c = {
        .kind = kind, .flags = flags, .path_len = (uint32_t)strlen(path), .size = size};
    memcpy(w.frame, &c, sizeof(c));
    memcpy(w.frame + sizeof(c), path, c.path_len);
    w.at = 0;
    w.len = sizeof(c) + c.path_len;
}

static void tell_file(const struct name *n, int fd, const struct stat *st)
{
    uint16_t flags = n->skipped ? INIT_CHANGE_SKIPPED : 0;
    size_t got = 0;
    begin_frame(INIT_CHANGE_FILE, flags, n->path, 0);
    know_nothing(n->path);
    if (st->st_size > MAX_FILE) {
        begin_frame(INIT_CHANGE_TOO_LARGE, flags, n->path, (uint64_t)st->st_size);
        return;
    }
    while (got < MAX_FILE) {
        ssize_t r = read(fd, w.frame + w.len + got, MAX_FILE - got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            break;
        got += (size_t)r;
    }
    begin_frame(INIT_CHANGE_FILE, flags, n->path, got);
    know(n->path, (struct own){.there = true,
                               .size = got,
                               .content = hash_of(HASH_BEGIN, w.frame + w.len, got)});
    w.len += got;
}

static void tell_no_file(const struct name *n, bool folder, uint16_t flags)
{
    begin_frame(folder ? INIT_CHANGE_FOLDER : INIT_CHANGE_GONE, flags, n->path, 0);
    know(n->path, (struct own){.there = folder, .folder = folder});
}

/* What stands there now. */
static void tell(const struct name *n)
{
    char full[sizeof(w.root) + INIT_MAX_PATH + 2];
    struct stat st;
    uint16_t flags = n->skipped ? INIT_CHANGE_SKIPPED : 0;
    full_path(full, sizeof(full), n->path);
    if (w.fenced && !n->skipped && untouched(n->path))
        return; /* it was us, or nothing */
    int fd = open(full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) { /* its user keeps it from himself */
        know_nothing(n->path);
        if (w.fenced)
            begin_frame(INIT_CHANGE_THERE, flags, n->path, 0);
        return;
    }
    bool there = fd >= 0 && fstat(fd, &st) == 0;
    bool folder = there && S_ISDIR(st.st_mode);
    if (n->folder && !folder)
        forget_own(); /* to who hears it, what was below is gone with it; it may come back */
    if (there && S_ISREG(st.st_mode))
        tell_file(n, fd, &st);
    else /* pipes and the like are no files */
        tell_no_file(n, folder, flags);
    if (fd >= 0)
        close(fd);
}

static void next_frame(void)
{
    if (w.fences) {
        w.fences--;
        begin_frame(INIT_CHANGE_FENCE, 0, "", 0);
    } else if (w.lost) {
        w.lost = false;
        begin_frame(INIT_CHANGE_LOST, 0, "", 0);
    } else if (w.n_names) {
        struct name n = w.names[--w.n_names];
        tell(&n);
        w.said_rest = false;
    } else if (!w.said_rest) {
        w.said_rest = true;
        begin_frame(INIT_CHANGE_REST, 0, "", 0);
    }
}

static void stop(struct init *in)
{
    if (w.waits)
        (void)epoll_ctl(in->epoll, EPOLL_CTL_DEL, w.out, NULL);
    if (w.ino >= 0)
        close(w.ino);
    if (w.out >= 0)
        close(w.out);
    if (w.timer >= 0)
        close(w.timer);
    init_watch_boot();
    w.on = w.waits = w.armed = w.rescan = w.lost = false;
    w.n_folders = w.n_names = w.at = w.len = 0;
}

/* Who listened is gone, and another may come: names are noted on, that of the frame again. */
static void lose_pipe(struct init *in)
{
    struct init_change c = {0};
    char path[INIT_MAX_PATH + 1];
    if (w.len)
        memcpy(&c, w.frame, sizeof(c));
    memcpy(path, w.frame + sizeof(c), c.path_len);
    path[c.path_len] = 0;
    if (w.waits)
        (void)epoll_ctl(in->epoll, EPOLL_CTL_DEL, w.out, NULL);
    close(w.out);
    w.out = -1;
    w.waits = false;
    w.at = w.len = 0;
    if (c.path_len)
        note(path, true);
    forget_own(); /* what was told may not have been heard */
}

/* False: the pipe is full, or broken. */
static bool put_frame(struct init *in)
{
    while (w.at < w.len) {
        ssize_t n = write(w.out, w.frame + w.at, w.len - w.at);
        if (n > 0) {
            w.at += (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || errno != EAGAIN)
            lose_pipe(in);
        return false;
    }
    w.at = w.len = 0;
    return true;
}

static void wait_for_pipe(struct init *in, bool on)
{
    struct epoll_event ev = {.events = EPOLLOUT, .data.u32 = ON_WATCH_PIPE};
    if (w.out < 0 || w.waits == on)
        return;
    w.waits = on;
    (void)epoll_ctl(in->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, w.out, &ev);
}

static void arm(void)
{
    struct itimerspec ts = {.it_value = {.tv_nsec = QUIET_MS * 1000000L}};
    if (w.armed || w.waits || w.out < 0 || (!w.n_names && !w.rescan && !w.lost && !w.fences))
        return;
    w.armed = timerfd_settime(w.timer, 0, &ts, NULL) == 0;
}

/* A few at a time: the loop has others to see to. */
static void tell_some(struct init *in)
{
    for (int i = 0; i < 16 && w.out >= 0; i++) {
        if (w.len == 0)
            next_frame();
        if (w.len == 0 && w.n_names)
            continue; /* nothing was to be said of that one */
        if (w.len == 0)
            break;
        if (!put_frame(in)) {
            wait_for_pipe(in, true);
            return;
        }
    }
    if (w.out < 0)
        return;
    bool more = w.n_names || !w.said_rest || w.fences;
    wait_for_pipe(in, more);
    if (!more && w.rescan) {
        w.rescan = false;
        w.n_folders = 0;
        forget_own();
        scan("", true);
        arm();
    }
}

/* --- from the loop --- */

void init_watch_turn(struct init *in, uint32_t what)
{
    bool was_root = geteuid() == 0;
    uint64_t ticks;
    if (!w.on || !become_user())
        return;
    if (what == ON_WATCH) {
        read_events();
        arm();
    } else {
        if (what == ON_WATCH_TICK && read(w.timer, &ticks, sizeof(ticks)) > 0)
            w.armed = false;
        w.said_rest = w.said_rest && !w.n_names;
        tell_some(in);
    }
    become_init(was_root);
}

static int take_pipe(int *fd)
{
    int flags = fcntl(*fd, F_GETFL);
    if (flags < 0 || fcntl(*fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return errno;
    w.out = *fd;
    *fd = -1;
    return 0;
}

static int open_watch(struct init *in, const struct init_watch *r)
{
    static const uint32_t ids[] = {ON_WATCH, ON_WATCH_TICK};
    w.ino = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    w.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (w.ino < 0 || w.timer < 0)
        return errno;
    const int fds[] = {w.ino, w.timer};
    for (int i = 0; i < 2; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = ids[i]};
        if (epoll_ctl(in->epoll, EPOLL_CTL_ADD, fds[i], &ev) < 0)
            return errno;
    }
    w.uid = r->uid;
    w.gid = r->gid;
    w.on = w.said_rest = true;
    return 0;
}

/* Who listens from now on knows nothing of earlier writes. */
static void greet(const struct init_watch *r)
{
    w.fenced = r->fences == 1;
    w.fences = 0;
    forget_own();
}

int init_watch_begin(struct init *in, const uint8_t *body, size_t len, int *fds, size_t n_fds)
{
    struct init_watch r;
    const char *root, *ignored;
    bool was_root = geteuid() == 0;
    int error = init_decode_watch(body, len, &r, &root, &ignored);
    if (error)
        return error;
    if (n_fds != 1)
        return EBADF;
    if (w.on && strlen(w.root) == r.root_len && !memcmp(w.root, root, r.root_len)) {
        if (w.out >= 0)
            lose_pipe(in);
        error = take_pipe(fds); /* what was noted meanwhile goes to whom it is now */
        greet(&r);
        if (!error && r.all && was_root && become_user()) {
            w.n_folders = 0;
            w.said_rest = false;
            w.listing = true;
            scan("", true);
            w.listing = false;
            become_init(was_root);
        }
        arm();
        return error;
    }
    stop(in);
    error = open_watch(in, &r);
    if (!error)
        error = take_pipe(fds);
    if (!error && !become_user())
        error = errno;
    if (error) {
        stop(in);
        return error;
    }
    memcpy(w.root, root, r.root_len);
    w.root[r.root_len] = 0;
    greet(&r);
    memcpy(w.ignored, ignored, r.ignored_len);
    w.ignored_len = r.ignored_len;
    scan("", r.all != 0);
    arm();
    become_init(was_root);
    return 0;
}

/* --- around the shim's own writes --- */

bool init_watch_is(const char *root)
{
    return w.on && !strcmp(root, w.root);
}

size_t init_watch_before(struct init *in, const char *root)
{
    (void)in;
    if (!init_watch_is(root))
        return SIZE_MAX;
    read_events();
    return w.n_names;
}

static struct own left_by(struct init *in, const struct init_file *f)
{
    char full[sizeof(w.root) + INIT_MAX_PATH + 2];
    struct own now = {.there = !f->gone, .folder = f->folder != 0};
    struct stat st;
    if (f->gone || f->folder)
        return now;
    now.size = f->size;
    now.content = hash_of(HASH_BEGIN, f->data, f->size);
    full_path(full, sizeof(full), f->path);
    if (init_running(in) == 0 || lstat(full, &st) < 0)
        return now; /* of that no event is kept, which would have to be known again */
    now.stated = true;
    now.ino = st.st_ino;
    now.written = st.st_mtim;
    return now;
}

void init_watch_wrote(struct init *in, size_t before, const struct init_file *f, bool done)
{
    if (before == SIZE_MAX || !w.on)
        return;
    if (done)
        know(f->path, left_by(in, f));
    else
        know_nothing(f->path);
}

bool init_watch_holds(size_t before, const char *path)
{
    struct name *n = before == SIZE_MAX ? NULL : find_name(path);
    if (!n || n->listed || untouched(path))
        return false;
    n->skipped = true;
    return true;
}

/* While nobody else runs, what happened was us. */
void init_watch_after(struct init *in, size_t before)
{
    if (before == SIZE_MAX || !w.on)
        return;
    read_events();
    if (init_running(in) == 0 && w.n_names > before)
        w.n_names = before;
    w.fences += w.fenced;
    arm();
}

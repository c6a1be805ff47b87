/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/cgroup_int.h"

#include "common/base/buf.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* All that runsc knows: it would make those that we do not, and leave them behind when it is
 * killed. pids stands first, for it is the one that is walked. */
static const char *const hierarchies[] = {
    "pids",    "memory",  "cpu",     "cpuacct",  "cpuset",     "blkio", "devices",
    "freezer", "hugetlb", "net_cls", "net_prio", "perf_event", "rdma",  "systemd",
};
_Static_assert(DBX_ARRAY_LEN(hierarchies) <= SHIM_CG_MAX_DIRS, "room for all");

/* ---- small files ---- */

/* The kernel gives up in the middle, with EINTR, when it has to reclaim memory below a new limit
 * and a signal comes (mm/memcontrol-v1.c, mem_cgroup_resize_max). */
static int write_value(int fd, const char *value)
{
    ssize_t n;
    do
        n = pwrite(fd, value, strlen(value), 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int shim_cg__write(const char *dir, const char *file, const char *value)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, file);
    DBX_CLEANUP(dbx_closep) int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write_value(fd, value);
}

static int read_file(const char *dir, const char *file, struct dbx_buf *ret)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, file);
    return dbx_fs_read(path, SHIM_CG_MAX_FILE, ret, NULL);
}

/* The descriptor of a file, opened when it is not yet; -errno. */
static int held(struct shim_cgroup *cg, const char *dir, const char *file, bool writes)
{
    for (size_t i = 0; i < cg->n_held; i++) {
        const struct shim_cg_held *h = &cg->held[i];
        if (h->dir == dir && h->writes == writes && strcmp(h->file, file) == 0)
            return h->fd;
    }
    dbx_assert(cg->n_held < SHIM_CG_MAX_HELD);
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, file);
    int fd = open(path, (writes ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    cg->held[cg->n_held++] = (struct shim_cg_held){dir, file, writes, fd};
    return fd;
}

int shim_cg__put(struct shim_cgroup *cg, const char *dir, const char *file, const char *value)
{
    int fd = held(cg, dir, file, true);
    if (fd < 0)
        return fd;
    /* the kernel's own files do not mind being cut, as an open with O_TRUNC does it */
    return ftruncate(fd, 0) < 0 ? -errno : write_value(fd, value);
}

/* All of a small file, terminated. */
static int read_held(struct shim_cgroup *cg, const char *dir, const char *file, char *ret,
                     size_t size)
{
    int fd = held(cg, dir, file, false);
    if (fd < 0)
        return fd;
    ssize_t n = pread(fd, ret, size - 1, 0);
    if (n < 0)
        return -errno;
    ret[n] = 0;
    return 0;
}

int shim_cg__get_u64(struct shim_cgroup *cg, const char *dir, const char *file, uint64_t *ret)
{
    char text[32];
    int r = read_held(cg, dir, file, text, sizeof(text));
    if (r < 0)
        return r;
    size_t len = strcspn(text, "\n");
    if (len == 3 && memcmp(text, "max", 3) == 0) {
        *ret = UINT64_MAX;
        return 0;
    }
    return dbx_parse_u64(text, len, 0, UINT64_MAX, ret);
}

static void read_key_line(const char *line, size_t len, const struct shim_cg_key *keys, size_t n)
{
    const char *space = memchr(line, ' ', len);
    if (!space)
        return;
    size_t key_len = (size_t)(space - line);
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        if (strlen(keys[i].key) == key_len && memcmp(keys[i].key, line, key_len) == 0 &&
            dbx_parse_u64(space + 1, len - key_len - 1, 0, UINT64_MAX, &v) == 0)
            *keys[i].ret = v;
    }
}

int shim_cg__get_keys(struct shim_cgroup *cg, const char *dir, const char *file,
                      const struct shim_cg_key *keys, size_t n)
{
    char text[8192]; /* memory.stat, the longest, has 2 KiB */
    int r = read_held(cg, dir, file, text, sizeof(text));
    if (r < 0)
        return r;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n");
        read_key_line(p, len, keys, n);
        p += len + (p[len] == '\n');
    }
    return 0;
}

int shim_cg__each_pid(const char *dir, void (*fn)(pid_t pid, void *user), void *user)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/cgroup.procs", dir);
    int r = dbx_fs_read(path, 1u << 20, &buf, NULL);
    if (r < 0)
        return r;
    int count = 0;
    for (const char *p = dbx_buf_cstr(&buf); *p;) {
        size_t len = strcspn(p, "\n");
        uint64_t pid;
        if (dbx_parse_u64(p, len, 1, INT32_MAX, &pid) == 0) {
            count++;
            fn((pid_t)pid, user);
        }
        p += len + (p[len] == '\n');
    }
    return count;
}

struct wanted {
    pid_t pid;
    bool found;
};

static void look_at(pid_t pid, void *user)
{
    struct wanted *wanted = user;
    wanted->found |= pid == wanted->pid;
}

bool shim_cgroup_has(struct shim_cgroup *cg, pid_t pid)
{
    struct wanted wanted = {.pid = pid};
    (void)shim_cg__each_pid(cg->dirs[0], look_at, &wanted);
    return wanted.found;
}

static void kill_pid(pid_t pid, void *user)
{
    (void)user;
    if (pid > 1 && pid != getpid())
        (void)kill(pid, SIGKILL); /* ESRCH: it has gone by itself */
}

int shim_cg__kill_procs(const char *dir)
{
    int n = shim_cg__each_pid(dir, kill_pid, NULL);
    if (n == -ENOENT || n == -ENODEV)
        return 0;
    return n > 0 ? 1 : n;
}

const char *shim_cg__dir(const struct shim_cgroup *cg, const char *name)
{
    for (size_t i = 0; i < cg->cgs->n; i++)
        if (strcmp(cg->cgs->names[i], name) == 0)
            return cg->dirs[i];
    return NULL;
}

/* ---- the node's part of the tree ---- */

static bool gives(const char *dir, const char *file, mode_t mode)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, file);
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & mode);
}

static void add_root(struct shim_cgroups *cgs, const char *name, char *root)
{
    cgs->names[cgs->n] = name;
    cgs->roots[cgs->n++] = root;
}

static bool word_in(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = words; (p = strstr(p, word)); p += len)
        if ((p == words || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\n' || !p[len]))
            return true;
    return false;
}

static bool is_v2(const char *dir)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    if (read_file(dir, "cgroup.controllers", &buf) < 0)
        return false;
    const char *c = dbx_buf_cstr(&buf);
    return word_in(c, "memory") && word_in(c, "pids") && word_in(c, "cpu");
}

static void find_v1(struct shim_cgroups *cgs)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(hierarchies); i++) {
        DBX_CLEANUP(dbx_freep) char *root = dbx_asprintf("%s/%s", cgs->mount, hierarchies[i]);
        if (gives(root, "cgroup.procs", S_IRUSR))
            add_root(cgs, hierarchies[i], DBX_TAKE(root));
    }
}

static bool has(const struct shim_cgroups *cgs, const char *name)
{
    for (size_t i = 0; i < cgs->n; i++)
        if (strcmp(cgs->names[i], name) == 0)
            return true;
    return false;
}

static int detect(struct shim_cgroups *cgs, struct dbx_err *err)
{
    if (is_v2(cgs->mount)) {
        cgs->ops = &shim_cg__v2;
        add_root(cgs, "", dbx_strdup(cgs->mount));
        return 0;
    }
    find_v1(cgs);
    if (has(cgs, "memory") && has(cgs, "pids") && has(cgs, "cpu") && has(cgs, "cpuacct")) {
        cgs->ops = &shim_cg__v1;
        return 0;
    }
    return dbx_err_set(err, -ENOSYS, DBX_UNAVAIL,
                       "no cgroups at %s: neither v2 nor v1 with memory, cpu, cpuacct and pids",
                       cgs->mount);
}

/* Of 100; before Linux 5.15 nothing is idle. */
static uint32_t percent_of(enum shim_weight weight)
{
    static const uint32_t percent[] = {[SHIM_WEIGHT_FULL] = 100,
                                       [SHIM_WEIGHT_AHEAD] = 25,
                                       [SHIM_WEIGHT_BATCH] = 5,
                                       [SHIM_WEIGHT_IDLE] = 5};
    return percent[weight];
}

static int weigh(struct shim_cgroups *cgs, const char *base, uint32_t weight)
{
    return cgs->ops->weigh(cgs, base, weight ? weight : 1);
}

/* The same files in both versions. */
static char *background_dir(const struct shim_cgroups *cgs)
{
    size_t at = 0;
    for (size_t i = 0; i < cgs->n; i++)
        if (strcmp(cgs->names[i], "cpu") == 0)
            at = i;
    return dbx_asprintf("%s/%s", cgs->roots[at], cgs->bases[SHIM_CG_BACKGROUND]);
}

/* As heavy as its heaviest. While it is idle the kernel takes no weight. */
static int weigh_background(struct shim_cgroups *cgs)
{
    const uint32_t whole = cgs->weight ? cgs->weight : 100;
    enum shim_weight w = SHIM_WEIGHT_FULL;
    while (w < cgs->lifted && !cgs->background[w])
        w++;
    if (w == cgs->background_weight)
        return 0;
    DBX_CLEANUP(dbx_freep) char *dir = background_dir(cgs);
    int r = shim_cg__write(dir, "cpu.idle", w == SHIM_WEIGHT_IDLE ? "1" : "0");
    if (r == -ENOENT || (r == 0 && w != SHIM_WEIGHT_IDLE))
        r = weigh(cgs, cgs->bases[SHIM_CG_BACKGROUND], whole * percent_of(w) / 100);
    cgs->background_weight = r < 0 ? SHIM_WEIGHTS : w;
    return r;
}

static int weigh_all(struct shim_cgroups *cgs, struct dbx_err *err)
{
    const char *front = cgs->bases[SHIM_CG_FRONT];
    int r = cgs->weight ? weigh(cgs, front, cgs->weight) : 0;
    if (r == 0 && cgs->weight)
        r = weigh_background(cgs);
    return r < 0 ? dbx_err_set(err, r, DBX_UNAVAIL, "weigh cgroup %s: %s", front, strerror(-r)) : 0;
}

int shim_cgroups_open(const struct shim_cgroups_opts *opts, struct shim_cgroups **ret,
                      struct dbx_err *err)
{
    DBX_CLEANUP(shim_cgroups_freep) struct shim_cgroups *cgs = DBX_NEW(struct shim_cgroups);
    cgs->mount = dbx_strdup(opts->mount ? opts->mount : "/sys/fs/cgroup");
    cgs->bases[SHIM_CG_FRONT] = dbx_strdup(opts->base);
    cgs->bases[SHIM_CG_BACKGROUND] = dbx_asprintf("%s" SHIM_CGROUP_BACKGROUND, opts->base);
    cgs->weight = opts->weight;
    cgs->lifted = SHIM_WEIGHT_IDLE;
    cgs->background_weight = SHIM_WEIGHTS;
    int r = detect(cgs, err);
    for (size_t i = 0; r == 0 && i < SHIM_CG_PARTS; i++)
        r = cgs->ops->open(cgs, cgs->bases[i], opts->move_self, err);
    if (r == 0)
        r = weigh_all(cgs, err);
    if (r == 0)
        *ret = DBX_TAKE(cgs);
    return r;
}

struct shim_cgroups *shim_cgroups_free(struct shim_cgroups *cgs)
{
    if (!cgs)
        return NULL;
    shim_cgroup_free(cgs->all_background);
    for (size_t i = 0; i < cgs->n; i++)
        free(cgs->roots[i]);
    free(cgs->mount);
    for (size_t i = 0; i < SHIM_CG_PARTS; i++)
        free(cgs->bases[i]);
    free(cgs);
    return NULL;
}

void shim_cgroups_freep(struct shim_cgroups **cgs)
{
    *cgs = shim_cgroups_free(*cgs);
}

void shim_cgroups_prune(struct shim_cgroups *cgs)
{
    for (size_t i = 0; i < cgs->n * SHIM_CG_PARTS; i++) {
        DBX_CLEANUP(dbx_freep)
        char *base =
            dbx_asprintf("%s/%s", cgs->roots[i / SHIM_CG_PARTS], cgs->bases[i % SHIM_CG_PARTS]);
        (void)rmdir(base); /* not empty: it stays */
    }
}

int shim_cgroups_version(const struct shim_cgroups *cgs)
{
    return cgs->ops->version;
}

void shim_cgroups_give(const struct shim_cgroups *cgs, struct shim_cgroups_gives *ret)
{
    *ret = (struct shim_cgroups_gives){0};
    for (size_t i = 0; i < cgs->n; i++) {
        DBX_CLEANUP(dbx_freep)
        char *base = dbx_asprintf("%s/%s", cgs->roots[i], cgs->bases[SHIM_CG_FRONT]);
        ret->swap |= gives(base, "memory.memsw.limit_in_bytes", S_IWUSR) ||
                     gives(base, "memory.swap.max", S_IWUSR);
        ret->kill |= gives(base, "cgroup.kill", S_IWUSR);
        ret->reset_peak |= gives(base, "memory.max_usage_in_bytes", S_IWUSR) ||
                           gives(base, "memory.peak", S_IWUSR);
    }
}

static bool id_ok(const char *id)
{
    size_t len = strlen(id);
    return len >= 1 && len <= 64 &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static int each_in(const char *base, void (*fn)(const char *id, void *user), void *user,
                   struct dbx_err *err)
{
    DIR *dir = opendir(base);
    if (!dir)
        return errno == ENOENT ? 0 : dbx_err_sys(err, "list cgroups in %s", base);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_type == DT_DIR && id_ok(e->d_name))
            fn(e->d_name, user);
    closedir(dir);
    return 0;
}

int shim_cgroups_each(struct shim_cgroups *cgs, void (*fn)(const char *id, void *user), void *user,
                      struct dbx_err *err)
{
    for (size_t i = 0; i < cgs->n * SHIM_CG_PARTS; i++) {
        DBX_CLEANUP(dbx_freep)
        char *base =
            dbx_asprintf("%s/%s", cgs->roots[i / SHIM_CG_PARTS], cgs->bases[i % SHIM_CG_PARTS]);
        int r = each_in(base, fn, user, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- one sandbox's ---- */

/* Takes path. */
static struct shim_cgroup *cgroup_at(struct shim_cgroups *cgs, enum shim_cg_part part, char *path)
{
    struct shim_cgroup *cg = DBX_NEW(struct shim_cgroup);
    cg->cgs = cgs;
    cg->part = part;
    cg->weight = SHIM_WEIGHT_IDLE;
    cgs->background[cg->weight] += part == SHIM_CG_BACKGROUND;
    cg->peak_fd = -1;
    cg->path = path;
    for (size_t i = 0; i < cgs->n; i++)
        cg->dirs[i] = dbx_asprintf("%s%s", cgs->roots[i], cg->path);
    return cg;
}

static struct shim_cgroup *cgroup_new(struct shim_cgroups *cgs, const char *id,
                                      enum shim_cg_part part)
{
    dbx_assert(id_ok(id));
    return cgroup_at(cgs, part, dbx_asprintf("/%s/%s", cgs->bases[part], id));
}

/* It has that weight now: does the background's change? */
static int count(struct shim_cgroup *cg, enum shim_weight weight)
{
    if (cg->part != SHIM_CG_BACKGROUND)
        return 0;
    cg->cgs->background[cg->weight]--;
    cg->cgs->background[weight]++;
    cg->weight = weight;
    return weigh_background(cg->cgs);
}

/* In v1 a removal that was cut short has left some of its folders. */
static bool is_background(const struct shim_cgroups *cgs, const char *id)
{
    for (size_t i = 0; i < cgs->n; i++) {
        DBX_CLEANUP(dbx_freep)
        char *dir = dbx_asprintf("%s/%s/%s", cgs->roots[i], cgs->bases[SHIM_CG_BACKGROUND], id);
        if (access(dir, F_OK) == 0)
            return true;
    }
    return false;
}

struct shim_cgroup *shim_cgroup_adopt(struct shim_cgroups *cgs, const char *id)
{
    bool background = is_background(cgs, id);
    struct shim_cgroup *cg = cgroup_new(cgs, id, background ? SHIM_CG_BACKGROUND : SHIM_CG_FRONT);
    if (background && !shim_cgroup_is_idle(cg))
        (void)count(cg, SHIM_WEIGHT_FULL); /* a nicety */
    return cg;
}

struct shim_cgroup *shim_cgroup_free(struct shim_cgroup *cg)
{
    if (!cg)
        return NULL;
    dbx_close(cg->peak_fd);
    (void)count(cg, SHIM_WEIGHT_IDLE);
    cg->cgs->background[SHIM_WEIGHT_IDLE] -= cg->part == SHIM_CG_BACKGROUND;
    for (size_t i = 0; i < cg->n_held; i++)
        dbx_close(cg->held[i].fd);
    for (size_t i = 0; i < cg->cgs->n; i++)
        free(cg->dirs[i]);
    free(cg->path);
    free(cg);
    return NULL;
}

static int make(struct shim_cgroup *cg, const struct shim_cgroup_limits *limits,
                struct dbx_err *err)
{
    for (size_t i = 0; i < cg->cgs->n; i++)
        if (mkdir(cg->dirs[i], 0755) < 0 && errno != EEXIST)
            return dbx_err_sys(err, "make cgroup %s", cg->dirs[i]);
    int r = cg->cgs->ops->prepare(cg, err);
    return r < 0 ? r : cg->cgs->ops->set(cg, limits, err);
}

int shim_cgroup_create(struct shim_cgroups *cgs, const char *id, bool background,
                       const struct shim_cgroup_limits *limits, struct shim_cgroup **ret,
                       struct dbx_err *err)
{
    struct shim_cgroup *cg = cgroup_new(cgs, id, background ? SHIM_CG_BACKGROUND : SHIM_CG_FRONT);
    int r = make(cg, limits, err);
    if (r < 0) {
        (void)shim_cgroup_remove(cg); /* nothing has run in it */
        shim_cgroup_free(cg);
        return r;
    }
    *ret = cg;
    return 0;
}

const char *shim_cgroup_path(const struct shim_cgroup *cg)
{
    return cg->path;
}

const char *const *shim_cgroup_dirs(const struct shim_cgroup *cg)
{
    return (const char *const *)cg->dirs;
}

int shim_cgroup_set(struct shim_cgroup *cg, const struct shim_cgroup_limits *limits,
                    struct dbx_err *err)
{
    return cg->cgs->ops->set(cg, limits, err);
}

/* The same file in both versions. */
static const char *cpu_dir(const struct shim_cgroup *cg)
{
    const char *dir = shim_cg__dir(cg, "cpu");
    return dir ? dir : cg->dirs[0];
}

bool shim_cgroup_is_idle(struct shim_cgroup *cg)
{
    uint64_t idle = 0;
    return shim_cg__get_u64(cg, cpu_dir(cg), "cpu.idle", &idle) == 0 && idle;
}

static int set_own_weight(struct shim_cgroup *cg, enum shim_weight weight)
{
    if (weight != SHIM_WEIGHT_IDLE) {
        int r = shim_cgroup_is_idle(cg) ? shim_cg__put(cg, cpu_dir(cg), "cpu.idle", "0") : 0;
        return r < 0 ? r : cg->cgs->ops->set_weight(cg, percent_of(weight));
    }
    if (shim_cg__put(cg, cpu_dir(cg), "cpu.idle", "1") == 0)
        return 0;
    return cg->cgs->ops->set_weight(cg, percent_of(SHIM_WEIGHT_IDLE));
}

int shim_cgroup_set_weight(struct shim_cgroup *cg, enum shim_weight weight)
{
    int r = set_own_weight(cg, weight);
    int background = count(cg, weight);
    return r < 0 ? r : background;
}

bool shim_cgroup_in_background(const struct shim_cgroup *cg)
{
    return cg->part == SHIM_CG_BACKGROUND;
}

int shim_cgroups_lift(struct shim_cgroups *cgs, enum shim_weight weight)
{
    cgs->lifted = weight;
    return weigh_background(cgs);
}

int shim_cgroup_read(struct shim_cgroup *cg, struct shim_cgroup_stat *ret)
{
    struct shim_cgroup_stat st = {0};
    int r = cg->cgs->ops->read(cg, &st);
    if (r < 0)
        return r;
    *ret = st;
    return 0;
}

int shim_cgroup_spent(struct shim_cgroup *cg, struct shim_cgroup_stat *ret)
{
    struct shim_cgroup_stat st = {0};
    int r = cg->cgs->ops->spent(cg, &st);
    if (r < 0)
        return r;
    *ret = st;
    return 0;
}

int shim_cgroups_got(struct shim_cgroups *cgs, uint64_t *ret_us)
{
    struct shim_cgroup_stat st = {0};
    if (!cgs->all_background) {
        /* itself it does not count among those that stand there */
        cgs->all_background =
            cgroup_at(cgs, SHIM_CG_FRONT, dbx_asprintf("/%s", cgs->bases[SHIM_CG_BACKGROUND]));
    }
    int r = cgs->ops->spent(cgs->all_background, &st);
    if (r == 0)
        *ret_us = st.cpu_us;
    return r;
}

int shim_cgroup_reset_peak(struct shim_cgroup *cg)
{
    return cg->cgs->ops->reset_peak(cg);
}

int shim_cgroup_add(struct shim_cgroup *cg, pid_t pid, struct dbx_err *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%d", (int)pid);
    for (size_t i = 0; i < cg->cgs->n; i++) {
        int r = shim_cg__write(cg->dirs[i], "cgroup.procs", text);
        if (r < 0)
            return dbx_err_set(err, r, DBX_INTERNAL, "put %d into %s: %s", (int)pid, cg->dirs[i],
                               strerror(-r));
    }
    return 0;
}

int shim_cgroup_kill(struct shim_cgroup *cg)
{
    return cg->cgs->ops->kill(cg);
}

int shim_cgroup_remove(struct shim_cgroup *cg)
{
    int result = 0;
    for (size_t i = 0; i < cg->cgs->n; i++)
        if (rmdir(cg->dirs[i]) < 0 && errno != ENOENT)
            result = -errno;
    return result;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ledger.h"

#include "common/base/fd.h"
#include "common/base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEDGER_MAGIC 0x4c584244u /* "DBXL" */
#define LEDGER_VERSION 1
#define ENTRIES 8192u
#define BLOCK 512u
#define BLOCKS (256u << 10) /* 128 MiB of addresses; memory is what was ever written */
#define HEADER 4096u

/* where: 0 free; else (first block + 1) << 32 | length. kind and id are written before. */
struct entry {
    _Atomic uint64_t where;
    _Atomic uint64_t mark;
    uint8_t id[16];
    uint32_t kind, reserved;
};

struct memory {
    uint32_t magic, version;
    uint32_t entries, blocks;
    uint8_t pad[HEADER - 16];
    struct entry table[ENTRIES];
    uint8_t data[(size_t)BLOCKS * BLOCK];
};

struct shim_ledger {
    int fd; /* owned */
    struct memory *m;
    struct dbx_map *index;    /* kind and id -> struct entry */
    uint8_t used[BLOCKS / 8]; /* a bit a block */
    uint32_t hint;            /* no block before it is free */
    uint32_t entry_hint;      /* where to look first */
    size_t counts[8];
};

struct key {
    uint8_t b[17];
};

const struct dbx_id shim_ledger_id = {
    {'s', 'h', 'i', 'm', ' ', 'l', 'e', 'd', 'g', 'e', 'r', 0, 0, 0, 0, 1}};

static struct key key_of(uint32_t kind, const uint8_t id[static 16])
{
    struct key k;
    k.b[0] = (uint8_t)kind;
    memcpy(k.b + 1, id, 16);
    return k;
}

static uint32_t blocks_of(uint64_t len)
{
    return (uint32_t)((len + BLOCK - 1) / BLOCK);
}

static bool is_used(const struct shim_ledger *lg, uint32_t i)
{
    return lg->used[i / 8] & (1u << i % 8);
}

static void set_used(struct shim_ledger *lg, uint32_t at, uint32_t n, bool used)
{
    for (uint32_t i = at; i < at + n; i++)
        lg->used[i / 8] =
            (uint8_t)(used ? lg->used[i / 8] | 1u << i % 8 : lg->used[i / 8] & ~(1u << i % 8));
}

/* The lowest that are free: memory is what was ever written, so that stays little. */
static int find_blocks(struct shim_ledger *lg, uint32_t n, uint32_t *ret)
{
    uint32_t first = BLOCKS, run = 0;
    for (uint32_t i = lg->hint; i < BLOCKS; i++) {
        if (is_used(lg, i)) {
            run = 0;
            continue;
        }
        if (first == BLOCKS)
            first = i;
        if (++run < n)
            continue;
        *ret = i + 1 - n;
        lg->hint = *ret == first ? i + 1 : first;
        return 0;
    }
    return -ENOSPC;
}

static struct entry *find(const struct shim_ledger *lg, enum shim_ledger_kind kind,
                          const struct dbx_id *id)
{
    struct key k = key_of(kind, id->b);
    return lg ? dbx_map_get(lg->index, k.b, sizeof(k.b)) : NULL;
}

static void locate(uint64_t where, uint32_t *ret_at, uint32_t *ret_len)
{
    *ret_at = (uint32_t)(where >> 32) - 1;
    *ret_len = (uint32_t)where;
}

/* ---- put and delete ---- */

static struct entry *free_entry(struct shim_ledger *lg)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &lg->m->table[(lg->entry_hint + i) % ENTRIES];
        if (atomic_load_explicit(&e->where, memory_order_relaxed) == 0) {
            lg->entry_hint = (lg->entry_hint + i + 1) % ENTRIES;
            return e;
        }
    }
    return NULL;
}

static void release(struct shim_ledger *lg, uint64_t where)
{
    uint32_t at, len;
    if (!where)
        return;
    locate(where, &at, &len);
    set_used(lg, at, blocks_of(len), false);
    if (at < lg->hint)
        lg->hint = at;
}

static void del(struct shim_ledger *lg, struct entry *e)
{
    struct key k = key_of(e->kind, e->id);
    uint64_t where = atomic_load(&e->where);
    (void)dbx_map_del(lg->index, k.b, sizeof(k.b));
    lg->counts[e->kind]--;
    atomic_store_explicit(&e->where, 0, memory_order_release);
    release(lg, where);
}

static int put(struct shim_ledger *lg, struct entry *e, const void *data, size_t len)
{
    uint32_t at = 0;
    if (len == 0 || len > SHIM_LEDGER_MAX)
        return -E2BIG;
    int r = find_blocks(lg, blocks_of(len), &at);
    if (r < 0)
        return r;
    set_used(lg, at, blocks_of(len), true);
    memcpy(lg->m->data + (size_t)at * BLOCK, data, len);
    uint64_t before = atomic_load(&e->where);
    atomic_store_explicit(&e->where, (uint64_t)(at + 1) << 32 | (uint32_t)len,
                          memory_order_release);
    release(lg, before);
    return 0;
}

int shim_ledger_put(struct shim_ledger *lg, enum shim_ledger_kind kind, const struct dbx_id *id,
                    const void *data, size_t len)
{
    struct entry *e = find(lg, kind, id);
    if (!lg)
        return 0;
    bool old = e != NULL;
    if (!old) {
        e = free_entry(lg);
        if (!e)
            return -ENOSPC;
        e->kind = (uint32_t)kind;
        memcpy(e->id, id->b, sizeof(e->id));
        atomic_store(&e->mark, 0);
    }
    int r = put(lg, e, data, len);
    if (r < 0) {
        if (old)
            del(lg, e);
        return r;
    }
    if (!old) {
        struct key k = key_of(kind, id->b);
        (void)dbx_map_put(lg->index, k.b, sizeof(k.b), e);
        lg->counts[kind]++;
    }
    return 0;
}

void shim_ledger_del(struct shim_ledger *lg, enum shim_ledger_kind kind, const struct dbx_id *id)
{
    struct entry *e = find(lg, kind, id);
    if (e)
        del(lg, e);
}

const uint8_t *shim_ledger_get(const struct shim_ledger *lg, enum shim_ledger_kind kind,
                               const struct dbx_id *id, size_t *ret_len)
{
    const struct entry *e = find(lg, kind, id);
    uint32_t at, len;
    if (!e)
        return NULL;
    locate(atomic_load(&e->where), &at, &len);
    *ret_len = len;
    return lg->m->data + (size_t)at * BLOCK;
}

void shim_ledger_mark(struct shim_ledger *lg, enum shim_ledger_kind kind, const struct dbx_id *id,
                      uint64_t mark)
{
    struct entry *e = find(lg, kind, id);
    if (e)
        atomic_store_explicit(&e->mark, mark, memory_order_release);
}

uint64_t shim_ledger_marked(const struct shim_ledger *lg, enum shim_ledger_kind kind,
                            const struct dbx_id *id)
{
    const struct entry *e = find(lg, kind, id);
    return e ? atomic_load(&e->mark) : 0;
}

void shim_ledger_each(struct shim_ledger *lg, enum shim_ledger_kind kind,
                      void (*fn)(const struct dbx_id *id, const uint8_t *data, size_t len,
                                 void *user),
                      void *user)
{
    for (uint32_t i = 0; lg && i < ENTRIES; i++) {
        const struct entry *e = &lg->m->table[i];
        uint64_t where = atomic_load(&e->where);
        uint32_t at, len;
        struct dbx_id id;
        if (!where || e->kind != kind)
            continue;
        locate(where, &at, &len);
        memcpy(id.b, e->id, sizeof(id.b));
        fn(&id, lg->m->data + (size_t)at * BLOCK, len, user);
    }
}

size_t shim_ledger_count(const struct shim_ledger *lg, enum shim_ledger_kind kind)
{
    return lg ? lg->counts[kind] : 0;
}

/* ---- life ---- */

static int map(int fd, struct memory **ret, struct dbx_err *err)
{
    void *p = mmap(NULL, sizeof(struct memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                   fd, 0);
    if (p == MAP_FAILED)
        return dbx_err_sys(err, "map the ledger");
    *ret = p;
    return 0;
}

static struct shim_ledger *ledger_of(int fd, struct memory *m)
{
    struct shim_ledger *lg = DBX_NEW(struct shim_ledger);
    lg->fd = fd;
    lg->m = m;
    lg->index = dbx_map_new();
    return lg;
}

int shim_ledger_new(struct shim_ledger **ret, struct dbx_err *err)
{
    struct memory *m = NULL;
    DBX_CLEANUP(dbx_closep) int fd = memfd_create("devbox-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, sizeof(*m)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return dbx_err_sys(err, "make the ledger");
    int r = map(fd, &m, err);
    if (r < 0)
        return r;
    m->version = LEDGER_VERSION;
    m->entries = ENTRIES;
    m->blocks = BLOCKS;
    m->magic = LEDGER_MAGIC;
    *ret = ledger_of(DBX_TAKE_FD(fd), m);
    return 0;
}

static int bad(struct dbx_err *err, const char *what)
{
    return dbx_err_set(err, -EBADMSG, DBX_INVALID, "the ledger of the shim before: %s", what);
}

static int take_entry(struct shim_ledger *lg, struct entry *e, struct dbx_err *err)
{
    uint64_t where = atomic_load(&e->where);
    uint32_t at, len;
    if (!where)
        return 0;
    locate(where, &at, &len);
    if (e->kind == 0 || e->kind >= DBX_ARRAY_LEN(lg->counts))
        return bad(err, "an entry of that kind");
    if (where >> 32 == 0 || len == 0 || len > SHIM_LEDGER_MAX || at >= BLOCKS ||
        blocks_of(len) > BLOCKS - at)
        return bad(err, "an entry that points outside");
    for (uint32_t i = at; i < at + blocks_of(len); i++)
        if (is_used(lg, i))
            return bad(err, "entries that overlap");
    set_used(lg, at, blocks_of(len), true);
    struct key k = key_of(e->kind, e->id);
    if (dbx_map_put(lg->index, k.b, sizeof(k.b), e))
        return bad(err, "two entries of one name");
    lg->counts[e->kind]++;
    return 0;
}

int shim_ledger_open(int fd, struct shim_ledger **ret, struct dbx_err *err)
{
    struct stat st;
    struct memory *m = NULL;
    DBX_CLEANUP(dbx_closep) int mine = fd;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
        st.st_size != (off_t)sizeof(*m))
        return bad(err, "its memory");
    int r = map(fd, &m, err);
    if (r < 0)
        return r;
    struct shim_ledger *lg = ledger_of(DBX_TAKE_FD(mine), m);
    if (m->magic != LEDGER_MAGIC || m->version != LEDGER_VERSION || m->entries != ENTRIES ||
        m->blocks != BLOCKS)
        r = bad(err, "its version");
    for (uint32_t i = 0; i < ENTRIES && r == 0; i++)
        r = take_entry(lg, &m->table[i], err);
    if (r < 0) {
        shim_ledger_free(lg);
        return r;
    }
    *ret = lg;
    return 0;
}

struct shim_ledger *shim_ledger_free(struct shim_ledger *lg)
{
    if (!lg)
        return NULL;
    (void)munmap(lg->m, sizeof(*lg->m));
    dbx_close(lg->fd);
    dbx_map_free(lg->index);
    free(lg);
    return NULL;
}

int shim_ledger_fd(const struct shim_ledger *lg)
{
    return lg->fd;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/keeper_int.h"

#include "common/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int bad(struct dbx_err *err, const char *what)
{
    return dbx_err_set(err, -EBADMSG, DBX_INVALID, "keeper protocol: %s", what);
}

static bool ring_size_ok(uint64_t n)
{
    return n >= KEEPER_RING_MIN && n <= KEEPER_RING_MAX && (n & (n - 1)) == 0;
}

static bool zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* How many descriptors a message may have: -1 when the type is not one of this direction. */
static int fds_of(const struct keeper_msg *m, bool from_shim, size_t *ret_max)
{
    size_t n = 0;
    *ret_max = 0;
    switch (m->type) {
    case KEEPER_ADD_SANDBOX:
    case KEEPER_SANDBOX:
        n = 1;
        *ret_max = 2;
        break;
    case KEEPER_ADD_PROCESS:
        n = 1 + (size_t)__builtin_popcount(m->streams & 7);
        break;
    case KEEPER_PROCESS:
        n = m->streams & KEEPER_STDIN ? 2 : 1;
        break;
    case KEEPER_WELCOME:
        n = 3;
        break;
    case KEEPER_HELLO:
    case KEEPER_REMOVE_SANDBOX:
    case KEEPER_REMOVE_PROCESS:
    case KEEPER_CLOSE_STDIN:
    case KEEPER_INVENTORY_END:
    case KEEPER_REPLY:
        break;
    default:
        return -1;
    }
    if ((m->type >= KEEPER_WELCOME) == from_shim)
        return -1;
    if (*ret_max < n)
        *ret_max = n;
    return (int)n;
}

int keeper_msg_decode(const void *data, size_t len, size_t n_fds, bool from_shim,
                      struct keeper_msg *ret, struct dbx_err *err)
{
    struct keeper_msg m;
    size_t max;
    if (len != sizeof(m))
        return bad(err, "length");
    memcpy(&m, data, sizeof(m));
    int min = fds_of(&m, from_shim, &max);
    if (min < 0)
        return bad(err, "unknown message");
    if (n_fds < (size_t)min || n_fds > max)
        return bad(err, "number of descriptors");
    if (m.slot >= KEEPER_SLOTS || m.streams & ~7u || m.error < 0)
        return bad(err, "range");
    bool process = m.type == KEEPER_ADD_PROCESS || m.type == KEEPER_PROCESS;
    if (process && (!ring_size_ok(m.value) || zero(m.process, 16)))
        return bad(err, "process");
    bool sandbox =
        m.type == KEEPER_ADD_SANDBOX || m.type == KEEPER_REMOVE_SANDBOX || m.type == KEEPER_SANDBOX;
    if ((process || sandbox) && zero(m.sandbox, 16))
        return bad(err, "sandbox");
    *ret = m;
    return 0;
}

static int map_sealed(int fd, uint64_t size, void **ret, struct dbx_err *err)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return bad(err, "memory that may shrink");
    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
        return bad(err, "size of memory");
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return dbx_err_sys(err, "map shared memory");
    *ret = p;
    return 0;
}

int keeper_map(int memfd, uint64_t ring_size, struct keeper_shared **ret, struct dbx_err *err)
{
    void *p;
    int r = map_sealed(memfd, keeper_map_size(ring_size), &p, err);
    if (r < 0)
        return r;
    struct keeper_shared *shared = p;
    if (shared->magic != KEEPER_SHARED_MAGIC || shared->version != KEEPER_VERSION) {
        keeper_unmap(shared, ring_size);
        return bad(err, "shared memory of another version");
    }
    *ret = shared;
    return 0;
}

void keeper_unmap(struct keeper_shared *shared, uint64_t ring_size)
{
    if (shared)
        (void)munmap(shared, keeper_map_size(ring_size));
}

int keeper_bells_map(int fd, struct keeper_doorbells **ret, struct dbx_err *err)
{
    void *p;
    int r = map_sealed(fd, KEEPER_PAGE, &p, err);
    if (r < 0)
        return r;
    *ret = p;
    return 0;
}

int keeper_bells_new(int *ret_fd, struct keeper_doorbells **ret, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int fd = memfd_create("devbox-bells", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, KEEPER_PAGE) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return dbx_err_sys(err, "make doorbells");
    int r = keeper_bells_map(fd, ret, err);
    if (r < 0)
        return r;
    *ret_fd = DBX_TAKE_FD(fd);
    return 0;
}

void keeper_bells_unmap(struct keeper_doorbells *bells)
{
    if (bells)
        (void)munmap(bells, KEEPER_PAGE);
}

void keeper_ring_bell(struct keeper_bell *bell, int eventfd, uint32_t slot)
{
    uint64_t one = 1;
    atomic_fetch_or(&bell->bits[slot / 64], 1ull << slot % 64);
    if (atomic_load(&bell->armed) && atomic_exchange(&bell->armed, 0))
        (void)!write(eventfd, &one, sizeof(one)); /* full: it is awake anyway */
}

size_t keeper_collect(struct keeper_bell *bell, void (*fn)(uint32_t slot, void *user), void *user)
{
    size_t n = 0;
    for (uint32_t w = 0; w < DBX_ARRAY_LEN(bell->bits); w++) {
        if (!atomic_load_explicit(&bell->bits[w], memory_order_relaxed))
            continue;
        uint64_t bits = atomic_exchange(&bell->bits[w], 0);
        for (; bits; bits &= bits - 1, n++)
            fn(w * 64 + (uint32_t)__builtin_ctzll(bits), user);
    }
    return n;
}

bool keeper_arm(struct keeper_bell *bell)
{
    atomic_store(&bell->armed, 1);
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t w = 0; w < DBX_ARRAY_LEN(bell->bits); w++)
        if (atomic_load(&bell->bits[w])) {
            /* who set it may have rung already: one wake-up too many does no harm */
            atomic_store(&bell->armed, 0);
            return false;
        }
    return true;
}

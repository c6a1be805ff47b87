/* SPDX-License-Identifier: Apache-2.0 */
/* Processes in the keeper's care, as the shim sees them: pipes made, rings read. */
#include "shim/keeper_client_int.h"

#include "common/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_PIPE (256 << 10)

static void bind_streams(struct shim_kept *p)
{
    for (int i = 0; i < 2; i++) {
        struct shim_stream *s = &p->streams[i];
        s->p = p;
        s->index = i;
        s->shared = &p->shared->ring[i];
        s->ring = keeper_ring_data(p->shared, p->ring_size, i);
        s->size = p->ring_size;
        s->next = atomic_load(&s->shared->tail);
        dbx_list_init(&s->node);
    }
}

static struct shim_kept *kept_new(struct shim_keeper *sk, uint32_t slot, uint64_t ring_size,
                                  struct keeper_shared *shared)
{
    struct shim_kept *p = DBX_NEW(struct shim_kept);
    p->sk = sk;
    p->slot = slot;
    p->ring_size = ring_size;
    p->shared = shared;
    p->in = -1;
    bind_streams(p);
    sk->slots[slot] = p;
    return p;
}

int shim_kept__adopt(struct shim_keeper *sk, const struct keeper_msg *m, int memfd, int in,
                     struct shim_kept **ret, struct dbx_err *err)
{
    struct keeper_shared *shared;
    if (sk->slots[m->slot])
        return dbx_err_set(err, -EEXIST, DBX_INTERNAL, "the keeper names slot %u twice", m->slot);
    int r = keeper_map(memfd, m->value, &shared, err);
    if (r < 0)
        return r;
    struct shim_kept *p = kept_new(sk, m->slot, m->value, shared);
    p->phase = m->phase;
    p->in = in;
    memcpy(p->sandbox.b, m->sandbox, sizeof(p->sandbox.b));
    memcpy(p->process.b, m->process, sizeof(p->process.b));
    *ret = p;
    return 0;
}

/* --- a new one --- */

struct pipes {
    int memfd, read[2], write[2], in_read, in_write;
};

static void pipes_close(struct pipes *s)
{
    dbx_closep(&s->memfd);
    for (int i = 0; i < 2; i++) {
        dbx_closep(&s->read[i]);
        dbx_closep(&s->write[i]);
    }
    dbx_closep(&s->in_read);
    dbx_closep(&s->in_write);
}

/* 0666: programs that open /dev/stdout again are another uid than ours */
static int make_pipe(int *ret_read, int *ret_write)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    *ret_read = fds[0];
    *ret_write = fds[1];
    return fchmod(fds[1], 0666);
}

/* With room for more than one piece of the sandbox's output its kernel is woken less often. Where
 * the kernel allows us no more, the usual 64 KiB do. */
static int make_output(int *ret_read, int *ret_write)
{
    if (make_pipe(ret_read, ret_write) < 0)
        return -1;
    (void)fcntl(*ret_write, F_SETPIPE_SZ, OUTPUT_PIPE);
    return 0;
}

static int make_memory(int *ret_fd, uint32_t ring_size)
{
    *ret_fd = memfd_create("devbox-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*ret_fd < 0 || ftruncate(*ret_fd, (off_t)keeper_map_size(ring_size)) < 0)
        return -1;
    struct keeper_shared head = {
        .magic = KEEPER_SHARED_MAGIC, .version = KEEPER_VERSION, .ring_size = ring_size};
    if (pwrite(*ret_fd, &head, offsetof(struct keeper_shared, ring), 0) < 0)
        return -1;
    return fcntl(*ret_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int make_all(struct pipes *s, const struct shim_kept_opts *opts, uint32_t ring_size,
                    struct dbx_err *err)
{
    *s = (struct pipes){-1, {-1, -1}, {-1, -1}, -1, -1};
    if (make_memory(&s->memfd, ring_size) < 0 || make_output(&s->read[0], &s->write[0]) < 0 ||
        make_output(&s->read[1], &s->write[1]) < 0)
        return dbx_err_sys(err, "make the streams of a process");
    if (opts->stdin_open &&
        (make_pipe(&s->in_read, &s->in_write) < 0 || dbx_set_nonblock(s->in_write, true) < 0))
        return dbx_err_sys(err, "make the streams of a process");
    return 0;
}

static int free_slot(const struct shim_keeper *sk, uint32_t *ret)
{
    for (uint32_t i = 0; i < KEEPER_SLOTS; i++)
        if (!sk->slots[i]) {
            *ret = i;
            return 0;
        }
    return -ENOSPC;
}

static int hand_over(struct shim_keeper *sk, const struct shim_kept_opts *opts, uint32_t slot,
                     uint32_t ring_size, const struct pipes *s)
{
    struct keeper_msg m = {.type = KEEPER_ADD_PROCESS,
                           .slot = slot,
                           .phase = opts->phase,
                           .value = ring_size,
                           .streams = KEEPER_STDOUT | KEEPER_STDERR};
    int fds[4] = {s->memfd, s->read[0], s->read[1], s->in_write};
    memcpy(m.sandbox, opts->sandbox.b, sizeof(m.sandbox));
    memcpy(m.process, opts->process.b, sizeof(m.process));
    if (opts->stdin_open)
        m.streams |= KEEPER_STDIN;
    return shim_keeper__request(sk, &m, fds, opts->stdin_open ? 4 : 3, opts->fn, opts->user);
}

int shim_kept_new(struct shim_keeper *sk, const struct shim_kept_opts *opts, struct shim_kept **ret,
                  int ret_fds[static 3], struct dbx_err *err)
{
    uint32_t slot, size = opts->ring_size ? opts->ring_size : KEEPER_RING_DEFAULT;
    DBX_CLEANUP(pipes_close) struct pipes s = {-1, {-1, -1}, {-1, -1}, -1, -1};
    struct keeper_shared *shared;
    dbx_assert(size >= KEEPER_RING_MIN && size <= KEEPER_RING_MAX && (size & (size - 1)) == 0);
    if (!shim_keeper_is_up(sk))
        return dbx_err_set(err, -ENOTCONN, DBX_UNAVAIL, "the keeper is away");
    int r = free_slot(sk, &slot);
    if (r < 0)
        return dbx_err_set(err, r, DBX_LIMIT, "%d processes are the most", KEEPER_SLOTS);
    r = make_all(&s, opts, size, err);
    if (r == 0)
        r = keeper_map(s.memfd, size, &shared, err);
    if (r < 0)
        return r;
    r = hand_over(sk, opts, slot, size, &s);
    if (r < 0) {
        keeper_unmap(shared, size);
        return dbx_err_set(err, r, DBX_UNAVAIL, "hand a process to the keeper");
    }
    struct shim_kept *p = kept_new(sk, slot, size, shared);
    p->phase = opts->phase;
    p->sandbox = opts->sandbox;
    p->process = opts->process;
    p->in = DBX_TAKE_FD(s.in_write);
    ret_fds[0] = DBX_TAKE_FD(s.in_read);
    ret_fds[1] = DBX_TAKE_FD(s.write[0]);
    ret_fds[2] = DBX_TAKE_FD(s.write[1]);
    *ret = p;
    return 0;
}

/* --- its life --- */

static void about(const struct shim_kept *p, enum keeper_type type, struct keeper_msg *m)
{
    *m = (struct keeper_msg){.type = type, .slot = p->slot, .phase = p->phase};
    memcpy(m->sandbox, p->sandbox.b, sizeof(m->sandbox));
    memcpy(m->process, p->process.b, sizeof(m->process));
}

struct shim_kept *shim_kept_free(struct shim_kept *p)
{
    if (!p)
        return NULL;
    if (p->gone)
        *p->gone = true;
    if (!p->dead)
        p->sk->slots[p->slot] = NULL;
    for (int i = 0; i < 2; i++)
        dbx_list_remove(&p->streams[i].node);
    dbx_close(p->in);
    keeper_unmap(p->shared, p->ring_size);
    free(p);
    return NULL;
}

struct shim_kept *shim_kept_remove(struct shim_kept *p)
{
    struct keeper_msg m;
    if (p && !p->dead) {
        about(p, KEEPER_REMOVE_PROCESS, &m);
        /* cannot be said: the connection is as good as dead, and the next inventory shows what is
         * left over */
        (void)shim_keeper__request(p->sk, &m, NULL, 0, NULL, NULL);
    }
    return shim_kept_free(p);
}

const struct dbx_id *shim_kept_process(const struct shim_kept *p)
{
    return &p->process;
}

const struct dbx_id *shim_kept_sandbox(const struct shim_kept *p)
{
    return &p->sandbox;
}

uint32_t shim_kept_phase(const struct shim_kept *p)
{
    return p->phase;
}

struct keeper_durable *shim_kept_durable(struct shim_kept *p)
{
    return &p->shared->durable;
}

int shim_kept_stdin(const struct shim_kept *p)
{
    return p->in;
}

void shim_kept_close_stdin(struct shim_kept *p)
{
    struct keeper_msg m;
    if (p->in < 0)
        return;
    dbx_closep(&p->in);
    about(p, KEEPER_CLOSE_STDIN, &m);
    if (!p->dead)
        (void)shim_keeper__request(p->sk, &m, NULL, 0, NULL, NULL);
}

/* --- streams --- */

/* How far the keeper has come; what cannot be counts as a failure of the stream. */
static uint64_t head_of(struct shim_stream *s)
{
    uint64_t head = atomic_load_explicit(&s->shared->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&s->shared->tail, memory_order_relaxed);
    if (head < s->next || head - tail > s->size) {
        s->insane = true;
        return s->next;
    }
    return head;
}

const uint8_t *shim_stream_peek(struct shim_stream *s, size_t *ret_len)
{
    uint64_t n = head_of(s) - s->next, at = s->next & (s->size - 1);
    if (n > s->size - at)
        n = s->size - at;
    *ret_len = (size_t)n;
    return n ? s->ring + at : NULL;
}

void shim_stream_advance(struct shim_stream *s, size_t n)
{
    dbx_assert(n <= head_of(s) - s->next);
    s->next += n;
}

void shim_stream_release(struct shim_stream *s, uint64_t upto)
{
    uint64_t tail = atomic_load_explicit(&s->shared->tail, memory_order_relaxed);
    dbx_assert(upto <= s->next);
    if (upto <= tail)
        return;
    atomic_store_explicit(&s->shared->tail, upto, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load(&s->shared->stalled))
        return;
    uint64_t used = atomic_load_explicit(&s->shared->head, memory_order_relaxed) - upto;
    if (s->size - used >= s->size / 4 && !s->p->dead)
        shim_keeper__wake(s->p->sk, s->p->slot);
}

void shim_stream_consume(struct shim_stream *s, size_t n)
{
    shim_stream_advance(s, n);
    shim_stream_release(s, s->next);
}

struct shim_stream *shim_kept_stream(struct shim_kept *p, int stream)
{
    dbx_assert(stream == 0 || stream == 1);
    return &p->streams[stream];
}

int shim_stream_index(const struct shim_stream *s)
{
    return s->index;
}

uint64_t shim_stream_next(const struct shim_stream *s)
{
    return s->next;
}

uint64_t shim_stream_head(struct shim_stream *s)
{
    return head_of(s);
}

uint64_t shim_stream_tail(const struct shim_stream *s)
{
    return atomic_load_explicit(&s->shared->tail, memory_order_relaxed);
}

bool shim_stream_is_full(const struct shim_stream *s)
{
    return atomic_load_explicit(&s->shared->head, memory_order_acquire) - shim_stream_tail(s) >=
           s->size;
}

/* The state first: once it says the end, head moves no more. */
bool shim_stream_at_eof(const struct shim_stream *s)
{
    uint32_t state = atomic_load_explicit(&s->shared->state, memory_order_acquire);
    return state != KEEPER_OPEN &&
           atomic_load_explicit(&s->shared->head, memory_order_acquire) == s->next;
}

bool shim_stream_failed(const struct shim_stream *s)
{
    return s->insane || s->p->dead ||
           atomic_load_explicit(&s->shared->state, memory_order_acquire) == KEEPER_FAILED;
}

static bool has_news(struct shim_stream *s)
{
    if (!s->p->fn || s->held || s->told || s->p->dead)
        return false;
    return shim_stream_at_eof(s) || head_of(s) > s->next || s->insane;
}

static void make_ready(struct shim_stream *s)
{
    if (has_news(s) && dbx_list_empty(&s->node)) {
        dbx_list_push(&s->p->sk->ready, &s->node);
        shim_keeper__schedule(s->p->sk);
    }
}

void shim_kept__look(struct shim_kept *p)
{
    make_ready(&p->streams[0]);
    make_ready(&p->streams[1]);
}

void shim_kept_watch(struct shim_kept *p, shim_stream_fn *fn, void *user)
{
    p->fn = fn;
    p->user = user;
    shim_kept__look(p);
}

void shim_stream_resume(struct shim_stream *s)
{
    s->held = false;
    make_ready(s);
}

bool shim_stream__call(struct shim_stream *s)
{
    struct shim_kept *p = s->p;
    bool gone = false, *outer = p->gone;
    dbx_list_remove(&s->node);
    if (!has_news(s))
        return true;
    bool end = shim_stream_at_eof(s) || s->insane;
    p->gone = &gone;
    bool more = p->fn(p, s, p->user);
    if (gone) {
        if (outer)
            *outer = true;
        return false;
    }
    p->gone = outer;
    s->held = !more;
    s->told = more && end;
    make_ready(s);
    return true;
}

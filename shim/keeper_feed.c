/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/keeper_pump.h"

static bool free_of(struct keeper_feed *f, uint64_t *ret)
{
    uint64_t tail = atomic_load_explicit(&f->shared->tail, memory_order_acquire);
    if (tail > f->head || f->head - tail > f->size)
        return false;
    *ret = f->size - (f->head - tail);
    return true;
}

size_t keeper_feed_room(struct keeper_feed *f, uint8_t **ret)
{
    uint64_t room;
    bool sane = free_of(f, &room);
    if (sane && room == 0) {
        atomic_store(&f->shared->stalled, 1);
        atomic_thread_fence(memory_order_seq_cst);
        sane = free_of(f, &room);
        if (sane && room == 0)
            return 0;
    }
    if (!sane) {
        keeper_feed_ended(f, KEEPER_FAILED);
        return 0;
    }
    atomic_store_explicit(&f->shared->stalled, 0, memory_order_relaxed);
    uint64_t at = f->head & (f->size - 1), to_end = f->size - at;
    *ret = f->ring + at;
    return room < to_end ? room : to_end;
}

void keeper_feed_filled(struct keeper_feed *f, size_t n)
{
    f->head += n;
    atomic_store_explicit(&f->shared->head, f->head, memory_order_release);
}

void keeper_feed_ended(struct keeper_feed *f, enum keeper_state state)
{
    f->ended = true;
    atomic_store_explicit(&f->shared->state, state, memory_order_release);
}

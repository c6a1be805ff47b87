/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ship_durable.h"

#include "shim/ship.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void shim_durable_init(struct keeper_durable *d, uint64_t next_seq)
{
    struct dbx_sha256_ctx *empty = dbx_sha256_new();
    for (int i = 0; i < 2; i++) {
        dbx_sha256_save(empty, &d->hash[i][0]);
        atomic_store(&d->hash_at[i], 0);
        atomic_store(&d->acked[i], 0);
    }
    dbx_sha256_free(empty);
    atomic_store(&d->next_seq, next_seq);
    atomic_store(&d->version, KEEPER_DURABLE_VERSION);
}

struct keeper_intent *shim_durable_intend(struct keeper_durable *d, const struct dbx_record *rec)
{
    for (size_t i = 0; i < KEEPER_INTENTS; i++) {
        struct keeper_intent *it = &d->intents[i];
        if (atomic_load_explicit(&it->used, memory_order_relaxed))
            continue;
        it->seq = rec->seq;
        it->offset = rec->offset;
        it->ts_us = rec->ts_us;
        it->len = rec->len;
        it->type = (uint8_t)rec->type;
        it->flags = rec->flags;
        atomic_store_explicit(&it->used, 1, memory_order_release);
        return it;
    }
    return NULL;
}

void shim_durable_forget(struct keeper_intent *it)
{
    atomic_store_explicit(&it->used, 0, memory_order_release);
}

void shim_durable_given(struct keeper_durable *d, uint64_t next_seq)
{
    if (next_seq > atomic_load_explicit(&d->next_seq, memory_order_relaxed))
        atomic_store_explicit(&d->next_seq, next_seq, memory_order_release);
}

void shim_durable_hash(struct keeper_durable *d, int stream, const struct dbx_sha256_ctx *ctx)
{
    uint32_t other = !atomic_load_explicit(&d->hash_at[stream], memory_order_relaxed);
    dbx_sha256_save(ctx, &d->hash[stream][other]);
    atomic_store_explicit(&d->hash_at[stream], other, memory_order_release);
}

void shim_durable_acked(struct keeper_durable *d, int stream, uint64_t upto)
{
    if (upto > atomic_load_explicit(&d->acked[stream], memory_order_relaxed))
        atomic_store_explicit(&d->acked[stream], upto, memory_order_release);
}

/* ---- for who comes after ---- */

static int bad(struct dbx_err *err, const char *what)
{
    return dbx_err_set(err, -EBADMSG, DBX_INVALID, "the state of its output cannot be: %s", what);
}

static int by_seq(const void *a, const void *b)
{
    const struct keeper_intent *x = *(struct keeper_intent *const *)a,
                               *y = *(struct keeper_intent *const *)b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int stream_of(const struct keeper_intent *it)
{
    return it->type == DBX_REC_STDERR;
}

static void collect(struct keeper_durable *d, struct shim_durable_state *st)
{
    for (size_t i = 0; i < KEEPER_INTENTS; i++) {
        struct keeper_intent *it = &d->intents[i];
        if (!atomic_load(&it->used))
            continue;
        /* It was acknowledged, and the shim died before it took the intent back. */
        if (it->type != DBX_REC_STATUS && it->offset < st->acked[stream_of(it)])
            shim_durable_forget(it);
        else
            st->intents[st->n++] = it;
    }
    qsort(st->intents, st->n, sizeof(st->intents[0]), by_seq);
}

static int check_intents(struct shim_durable_state *st, struct dbx_err *err)
{
    for (size_t k = 0; k < st->n; k++) {
        const struct keeper_intent *it = st->intents[k];
        if (k > 0 && it->seq == st->intents[k - 1]->seq)
            return bad(err, "two records of one number");
        if (it->seq >= st->next_seq)
            st->next_seq = it->seq + 1;
        if (it->type == DBX_REC_STATUS)
            continue;
        if (it->type < DBX_REC_STDOUT || it->type > DBX_REC_PTY)
            return bad(err, "a record of that type");
        if (it->len == 0 || it->len > SHIM_SHIP_MAX_DATA)
            return bad(err, "a record's length");
        if (it->offset != st->given[stream_of(it)])
            return bad(err, "records that do not follow each other");
        st->given[stream_of(it)] += it->len;
    }
    return 0;
}

static int check_stream(const struct keeper_durable *d, int i, uint64_t at, uint64_t head,
                        struct shim_durable_state *st, struct dbx_err *err)
{
    uint32_t which = atomic_load(&d->hash_at[i]);
    if (which > 1)
        return bad(err, "its hash");
    st->hash[i] = d->hash[i][which];
    if (st->hash[i].bytes < st->acked[i] || st->hash[i].bytes > st->given[i])
        return bad(err, "its hash is of other bytes");
    bool pending = st->given[i] > st->acked[i];
    if (st->given[i] > head || at > head || (pending && at > st->acked[i]))
        return bad(err, "bytes that the ring does not hold");
    return 0;
}

int shim_durable_load(struct keeper_durable *d, const uint64_t at[static 2],
                      const uint64_t head[static 2], struct shim_durable_state *ret,
                      struct dbx_err *err)
{
    if (atomic_load(&d->version) != KEEPER_DURABLE_VERSION)
        return bad(err, "its version");
    struct shim_durable_state st = {.next_seq = atomic_load(&d->next_seq)};
    for (int i = 0; i < 2; i++)
        st.acked[i] = st.given[i] = atomic_load(&d->acked[i]);
    collect(d, &st);
    int r = check_intents(&st, err);
    for (int i = 0; i < 2 && r == 0; i++)
        r = check_stream(d, i, at[i], head[i], &st, err);
    if (r == 0)
        *ret = st;
    return r;
}

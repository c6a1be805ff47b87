/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/share.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/base/map.h"

struct gw_shares {
    struct dbx_map *kept;      /* struct key -> struct entry, owned */
    struct dbx_map *audiences; /* sandbox -> struct gw_audience, owned */
    struct dbx_list ages;      /* the oldest entry first */
    size_t bytes, max;
};

struct gw_audience {
    struct gw_shares *shares;
    struct dbx_id sandbox;
    size_t viewers;
};

struct key {
    struct dbx_id process;
    int64_t offset;
    uint64_t binary;
};

struct entry {
    struct gw_shared shared;
    struct gw_text before;
    struct dbx_list age;
    struct key key;
    size_t bytes;
};

static struct key make_key(const struct dbx_id *process, int64_t offset, bool binary)
{
    return (struct key){.process = *process, .offset = offset, .binary = binary};
}

static void free_messages(const struct gw_shared_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dbx_ws_frame_unref(messages[i].frame);
    free((void *)messages);
}

static void drop(struct gw_shares *s, struct entry *e)
{
    (void)dbx_map_del(s->kept, &e->key, sizeof(e->key));
    dbx_list_remove(&e->age);
    s->bytes -= e->bytes;
    free_messages(e->shared.messages, e->shared.n);
    free(e);
}

struct gw_shares *gw_shares_new(size_t max)
{
    struct gw_shares *s = DBX_NEW(struct gw_shares);
    s->kept = dbx_map_new();
    s->audiences = dbx_map_new();
    s->max = max;
    dbx_list_init(&s->ages);
    return s;
}

struct gw_shares *gw_shares_free(struct gw_shares *s)
{
    if (!s)
        return NULL;
    dbx_assert(dbx_map_count(s->audiences) == 0);
    while (!dbx_list_empty(&s->ages))
        drop(s, dbx_list_first(&s->ages, struct entry, age));
    dbx_map_free(s->kept);
    dbx_map_free(s->audiences);
    free(s);
    return NULL;
}

size_t gw_shares_bytes(const struct gw_shares *s)
{
    return s->bytes;
}

struct gw_audience *gw_audience_join(struct gw_shares *s, const struct dbx_id *sandbox)
{
    struct gw_audience *a = dbx_map_get(s->audiences, sandbox, sizeof(*sandbox));
    if (!a) {
        a = DBX_NEW(struct gw_audience);
        a->shares = s;
        a->sandbox = *sandbox;
        (void)dbx_map_put(s->audiences, sandbox, sizeof(*sandbox), a);
    }
    a->viewers++;
    return a;
}

struct gw_audience *gw_audience_leave(struct gw_audience *a)
{
    if (!a || --a->viewers > 0)
        return NULL;
    (void)dbx_map_del(a->shares->audiences, &a->sandbox, sizeof(a->sandbox));
    /* With the last audience goes what was kept for it: an idle gateway holds nothing. */
    while (dbx_map_count(a->shares->audiences) == 0 && !dbx_list_empty(&a->shares->ages))
        drop(a->shares, dbx_list_first(&a->shares->ages, struct entry, age));
    free(a);
    return NULL;
}

bool gw_audience_is_one(const struct gw_audience *a)
{
    return a->viewers < 2;
}

const struct gw_shared *gw_shares_find(struct gw_shares *s, const struct dbx_id *process,
                                       int64_t offset, const struct gw_text *before)
{
    const struct key key = make_key(process, offset, !before);
    const struct entry *e = dbx_map_get(s->kept, &key, sizeof(key));
    return e && (!before || gw_text_same(before, &e->before)) ? &e->shared : NULL;
}

void gw_sharing_add(struct gw_sharing *sh, struct dbx_ws_frame *frame, size_t bytes)
{
    sh->messages = dbx_realloc(sh->messages, (sh->n + 1) * sizeof(*sh->messages));
    sh->messages[sh->n++] = (struct gw_shared_message){frame, bytes};
}

void gw_shares_keep(struct gw_shares *s, const struct dbx_id *process, int64_t offset,
                    struct gw_sharing *sh, const struct gw_text *after)
{
    const struct key key = make_key(process, offset, !after);
    size_t bytes = sizeof(struct entry);
    for (size_t i = 0; i < sh->n; i++) {
        size_t len;
        (void)dbx_ws_frame_data(sh->messages[i].frame, &len);
        bytes += len + sizeof(sh->messages[i]);
    }
    /* One who stood elsewhere may have been first: his stays. */
    if (bytes > s->max || dbx_map_get(s->kept, &key, sizeof(key))) {
        free_messages(sh->messages, sh->n);
    } else {
        while (s->bytes + bytes > s->max)
            drop(s, dbx_list_first(&s->ages, struct entry, age));
        struct entry *e = DBX_NEW(struct entry);
        *e = (struct entry){.shared = {.messages = sh->messages, .n = sh->n},
                            .before = sh->before,
                            .key = key,
                            .bytes = bytes};
        if (after)
            e->shared.after = *after;
        (void)dbx_map_put(s->kept, &e->key, sizeof(e->key), e);
        dbx_list_push(&s->ages, &e->age);
        s->bytes += bytes;
    }
    *sh = (struct gw_sharing){.before = sh->before};
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/recent.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/base/map.h"

struct entry {
    struct dbx_list node; /* the one read last is at the end */
    struct dbx_id process;
    size_t len;
    char text[];
};

struct gw_recent {
    struct dbx_map *by_process; /* struct entry, owned */
    struct dbx_list all;
    size_t bytes, max_bytes;
};

struct gw_recent *gw_recent_new(size_t max_bytes)
{
    struct gw_recent *rc = DBX_NEW(struct gw_recent);
    rc->by_process = dbx_map_new();
    rc->max_bytes = max_bytes;
    dbx_list_init(&rc->all);
    return rc;
}

static void drop(struct gw_recent *rc, struct entry *e)
{
    (void)dbx_map_del(rc->by_process, &e->process, sizeof(e->process));
    dbx_list_remove(&e->node);
    rc->bytes -= sizeof(*e) + e->len;
    free(e);
}

struct gw_recent *gw_recent_free(struct gw_recent *rc)
{
    if (!rc)
        return NULL;
    while (!dbx_list_empty(&rc->all))
        drop(rc, dbx_list_first(&rc->all, struct entry, node));
    dbx_map_free(rc->by_process);
    free(rc);
    return NULL;
}

const char *gw_recent_find(struct gw_recent *rc, const struct dbx_id *process, size_t *ret_len)
{
    struct entry *e = dbx_map_get(rc->by_process, process, sizeof(*process));
    if (!e)
        return NULL;
    dbx_list_remove(&e->node);
    dbx_list_push(&rc->all, &e->node);
    *ret_len = e->len;
    return e->text;
}

void gw_recent_keep(struct gw_recent *rc, const struct dbx_id *process, const char *text,
                    size_t len)
{
    struct entry *e = dbx_map_get(rc->by_process, process, sizeof(*process));
    if (e)
        drop(rc, e);
    if (len > rc->max_bytes / 100)
        return;
    e = dbx_malloc(sizeof(*e) + len);
    e->process = *process;
    e->len = len;
    memcpy(e->text, text, len);
    rc->bytes += sizeof(*e) + len;
    dbx_list_push(&rc->all, &e->node);
    (void)dbx_map_put(rc->by_process, &e->process, sizeof(e->process), e);
    while (rc->bytes > rc->max_bytes)
        drop(rc, dbx_list_first(&rc->all, struct entry, node));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes of workspaces that are ordered before any process. Such a one is claimed, asks for the
 * files of record as any box asks for what is new, and is ready when init has written them. Who
 * starts a process meanwhile does not wait for that: the process brings the files too. */
#include "shim/box_int.h"

#include "common/base/map.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "common/proto/link.h"
#include "shim/request.h"

#include <errno.h>
#include <string.h>

#define ASK_MS 5000 /* an answer that has not come is not on its way */

struct raw {
    const char *sandbox, *template, *size;
    int64_t epoch, idle_ms, max_ms;
};

_Static_assert(sizeof(((struct shim_box_order *)0)->template) > SHIM_MAX_TEMPLATE, "it fits");

int shim_box_order_decode(const struct dbx_json *header, struct shim_box_order *ret,
                          struct dbx_err *err)
{
#define NUMBER(field, low, high)                                                                   \
    {                                                                                              \
        .name = #field, .type = DBX_JSON_INT, .offset = offsetof(struct raw, field),               \
        .flags = DBX_JSON_REQUIRED, .min = (low), .max = (high)                                    \
    }
    static const struct dbx_json_field fields[] = {
        {.name = "sandbox_id",
         .type = DBX_JSON_STRING,
         .offset = offsetof(struct raw, sandbox),
         .flags = DBX_JSON_REQUIRED},
        {.name = "template",
         .type = DBX_JSON_STRING,
         .offset = offsetof(struct raw, template),
         .flags = DBX_JSON_REQUIRED,
         .min = 1,
         .max = SHIM_MAX_TEMPLATE},
        {.name = "size",
         .type = DBX_JSON_STRING,
         .offset = offsetof(struct raw, size),
         .flags = DBX_JSON_REQUIRED},
        NUMBER(epoch, 0, INT64_MAX),
        NUMBER(idle_ms, 1, SHIM_MAX_BOX_MS),
        NUMBER(max_ms, 1, SHIM_MAX_BOX_MS),
    };
#undef NUMBER
    struct raw raw = {0};
    int r = dbx_json_decode(dbx_json_get(header, "order"), fields, DBX_ARRAY_LEN(fields), &raw,
                            "order.", err);
    if (r < 0)
        return r;
    *ret =
        (struct shim_box_order){.epoch = raw.epoch, .idle_ms = raw.idle_ms, .max_ms = raw.max_ms};
    if (dbx_id_parse(raw.sandbox, &ret->sandbox) < 0 || dbx_id_is_zero(&ret->sandbox))
        return dbx_err_field(err, "order.sandbox_id", "not an id");
    ret->size = dbx_size_find(raw.size);
    if (!ret->size || ret->size->special)
        return dbx_err_field(err, "order.size", "no size of this node");
    memcpy(ret->template, raw.template, strlen(raw.template) + 1);
    return 0;
}

static void fill_ready(struct dbx_jw *w, void *arg)
{
    dbx_jw_kstr(w, "sandbox_id", ((const struct shim_box *)arg)->id_text);
}

/* When it is not heard, it is said again to the next scheduler that welcomes us. */
static void announce(struct shim_box *box)
{
    const struct shim_execs_opts *o = &box->execs->opts;
    if (o->tell)
        (void)o->tell("sandbox_ready", fill_ready, box, o->user);
}

void shim_box__look_ready(struct shim_box *box)
{
    if (!box->standby || box->ready || !box->sb || box->ended || box->revision < 0 || box->writing)
        return;
    box->ready = true;
    dbx_timer_stop(box->prepare);
    dbx_log(DBX_LOG_INFO, &box->log, "the workspace's sandbox is ready");
    announce(box);
}

void shim_box__on_prepare(void *user)
{
    struct shim_box *box = DBX_CAST(struct shim_box, SHIM_BOX_MAGIC, user);
    shim_box__look_ready(box);
    if (!box->ready)
        shim_box__pull(box);
}

void shim_box__prepare(struct shim_box *box)
{
    if (!box->standby || box->ready || !box->sb)
        return;
    dbx_timer_start(box->prepare, 0, ASK_MS);
}

int shim_box_order(struct shim_execs *execs, const struct shim_box_order *order,
                   struct dbx_err *err)
{
    struct shim_box *box = shim_box_find(execs, &order->sandbox);
    if (box && box->closing)
        return dbx_err_set(err, -EBUSY, DBX_CONFLICT, "the workspace's sandbox is ending");
    int r = box ? 0 : shim_execs__check(execs, order->template, err);
    if (r < 0)
        return r;
    if (!box) {
        box = shim_box__claim(execs, &order->sandbox, order->template, order->size, order->max_ms,
                              /* ahead= */ true);
        box->idle_ms = (uint64_t)order->idle_ms;
    }
    if (box->ready) {
        announce(box);
        return 0;
    }
    box->standby = true;
    shim_box__save(box);
    shim_box__prepare(box);
    return 0;
}

void shim_boxes_announce(struct shim_execs *execs)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(execs->boxes, &it)) {
        struct shim_box *box = it.value;
        if (box->ready)
            announce(box);
    }
}

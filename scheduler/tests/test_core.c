/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "scheduler/core.h"
#include "tests/unit/check.h"
#include <stdlib.h>

static struct sched_proc *proc_of(struct sched_core *core, uint8_t owner, const char *template)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);

    sp->id = dbx_id_new();
    sp->owner.b[0] = owner;
    (void)dbx_strcpy(sp->template, sizeof(sp->template), template);
    sched_core_add(core, sp);
    return sp;
}

static struct sched_node *node_of(struct sched_core *core, const char *name, uint32_t slots,
                                  const char *template, uint32_t warm)
{
    struct sched_node *node = sched_core_node(core, name, /* create= */ true);

    node->online = true;
    node->deadline = 1000;
    node->cap.sandboxes = slots;
    node->cap.ntemplates = 1;
    (void)dbx_strcpy(node->cap.templates[0].name, sizeof(node->cap.templates[0].name), template);
    node->cap.templates[0].warm = warm;
    return node;
}

static void test_choice(void)
{
    struct sched_core *core = sched_core_new(100);
    struct sched_proc *sp = proc_of(core, 1, "python");

    CHECK(sched_core_assign(core, 0) == NULL);
    struct sched_node *go = node_of(core, "go", 50, "go", 5);
    CHECK(sched_core_assign(core, 0) == NULL);
    struct sched_node *large = node_of(core, "large", 10, "python", 0);
    struct sched_node *warm = node_of(core, "warm", 2, "python", 1);
    CHECK(sched_core_assign(core, 0) == sp);
    CHECK(sp->node == warm && sp->state == SCHED_PLACING && sp->attempt == 1);
    /* The only warm one is promised: now the most free. */
    sp = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == sp);
    CHECK(sp->node == large);
    large->online = false;
    sp = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == sp && sp->node == warm);
    sp = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == NULL);
    CHECK_EQ(sched_core_queued(core), 1);
    large->online = true;
    large->hold_until = 50;
    CHECK(sched_core_assign(core, 49) == NULL);
    CHECK(sched_core_assign(core, 50) == sp);
    CHECK_EQ(go->nprocs, 0);
    CHECK_EQ(large->nprocs, 2);
    sched_core_free(core);
}

static void test_fair(void)
{
    struct sched_core *core = sched_core_new(100);
    struct sched_proc *a[3], *b[2];
    struct sched_proc *stuck = proc_of(core, 1, "not-built");

    for (int i = 0; i < 3; i++)
        a[i] = proc_of(core, 1, "python");
    for (int i = 0; i < 2; i++)
        b[i] = proc_of(core, 2, "python");
    CHECK_EQ(sched_core_queued(core), 6);
    node_of(core, "n", 5, "python", 0);
    struct sched_proc *want[] = {a[0], b[0], a[1], b[1], a[2], NULL};
    for (size_t i = 0; i < DBX_ARRAY_LEN(want); i++)
        CHECK(sched_core_assign(core, 0) == want[i]);
    CHECK(stuck->state == SCHED_QUEUED);
    CHECK_EQ(sched_core_queued(core), 1);
    sched_core_free(core);
}

static void test_back_off(void)
{
    struct sched_core *core = sched_core_new(2);
    struct sched_proc *sp = proc_of(core, 1, "python");

    node_of(core, "n", 1, "python", 0);
    CHECK(sched_core_assign(core, 0) == sp);
    sched_proc_set_state(core, sp, SCHED_STARTING);
    CHECK_EQ(sched_proc_backoff(sp), 100);
    sched_core_requeue(core, sp, 100, /* refused= */ true);
    CHECK(sp->node == NULL && sp->attempt == 0);
    CHECK_EQ(sched_proc_backoff(sp), 200);
    CHECK(sched_core_assign(core, 99) == NULL);
    CHECK(!sched_core_full(core));
    proc_of(core, 1, "python");
    CHECK(sched_core_full(core));
    CHECK(sched_core_assign(core, 100) == sp); /* before the younger one */
    CHECK_EQ(sp->attempt, 1);
    sp->refusals = 50;
    CHECK_EQ(sched_proc_backoff(sp), 2000);
    sched_core_free(core);
}

static struct sched_proc *of_batch(struct sched_core *core, struct sched_batch *b, uint8_t owner)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);

    sp->id = dbx_id_new();
    sp->owner.b[0] = owner;
    sp->batch = b;
    (void)dbx_strcpy(sp->template, sizeof(sp->template), "python");
    sched_core_add(core, sp);
    return sp;
}

static void test_batches(void)
{
    struct sched_core *core = sched_core_new(100);
    struct dbx_id ids[3] = {dbx_id_new(), dbx_id_new(), dbx_id_new()};
    struct sched_batch *a = sched_core_batch(core, &ids[0], true),
                       *urgent = sched_core_batch(core, &ids[1], true),
                       *others = sched_core_batch(core, &ids[2], true);
    struct sched_node *n = node_of(core, "n", 100, "python", 0);
    struct sched_proc *alone[10];

    urgent->priority = 5;
    struct sched_proc *a1 = of_batch(core, a, 1), *a2 = of_batch(core, a, 1);
    struct sched_proc *u1 = of_batch(core, urgent, 1), *u2 = of_batch(core, urgent, 1);
    struct sched_proc *o1 = of_batch(core, others, 2);
    for (int i = 0; i < 10; i++)
        alone[i] = proc_of(core, 3, "python");
    /* Alone goes first, but each fifth turn is a batch's; there owners take turns, and one owner's
     * batches go by priority. */
    struct sched_proc *want[] = {alone[0], alone[1], alone[2], alone[3], u1,
                                 alone[4], alone[5], alone[6], alone[7], o1,
                                 alone[8], alone[9], u2,       a1};
    for (size_t i = 0; i < DBX_ARRAY_LEN(want); i++)
        CHECK(sched_core_assign(core, 0) == want[i]);
    CHECK_EQ(n->nbatch, 4);
    n->cap.cpus = 2; /* so many keep it busy */
    CHECK(sched_core_assign(core, 0) == NULL);
    sched_proc_set_state(core, u1, SCHED_STARTING);
    sched_proc_set_state(core, u1, SCHED_ENDING);
    sched_core_remove(core, u1);
    CHECK_EQ(n->nbatch, 3);
    CHECK_EQ(urgent->in_core, 1);
    CHECK(sched_core_assign(core, 0) == a2);
    CHECK_EQ(sched_core_batch_room(core, a), 200); /* twice the slots */
    a->max_parallel = 3;
    CHECK_EQ(sched_core_batch_room(core, a), 3);
    sched_core_batches_sweep(core);
    CHECK(sched_core_batch(core, &ids[0], false) == a);
    sched_core_free(core);
}

static void test_lost(void)
{
    struct sched_core *core = sched_core_new(10);
    struct sched_proc *sp = proc_of(core, 1, "python");
    struct sched_node *n = node_of(core, "n", 1, "python", 0);

    CHECK(sched_core_assign(core, 0) == sp);
    CHECK_EQ(sched_proc_fate(sp), SCHED_AGAIN); /* was never sent */
    sched_proc_set_state(core, sp, SCHED_STARTING);
    CHECK_EQ(sched_proc_fate(sp), SCHED_END_LOST);
    sp->retry_safe = true;
    sched_proc_set_state(core, sp, SCHED_RUNNING);
    CHECK_EQ(sched_proc_fate(sp), SCHED_AGAIN);
    sp->cancel = true;
    CHECK_EQ(sched_proc_fate(sp), SCHED_END_CANCELLED);
    sp->cancel = false;
    CHECK(sched_core_expire(core, 999) == NULL);
    CHECK(sched_core_expire(core, 1000) == n);
    CHECK(sched_core_expire(core, 1000) == NULL);
    sched_core_sweep(core);
    CHECK(sched_core_node(core, "n", false) == n); /* a process is there yet */
    sched_core_requeue(core, sp, 0, false);
    CHECK_EQ(sp->attempt, 1);
    sched_core_sweep(core);
    CHECK(sched_core_node(core, "n", false) == NULL);
    sp->attempt = SCHED_MAX_ATTEMPTS;
    n = node_of(core, "m", 1, "python", 0);
    CHECK(sched_core_assign(core, 0) == sp);
    sched_proc_set_state(core, sp, SCHED_STARTING);
    CHECK_EQ(sched_proc_fate(sp), SCHED_END_LOST);
    sched_proc_set_state(core, sp, SCHED_ENDING);
    sched_core_remove(core, sp);
    CHECK_EQ(sched_core_count(core), 0);
    CHECK_EQ(n->nprocs, 0);
    sched_core_free(core);
}

static void test_adopt(void)
{
    struct sched_core *core = sched_core_new(10);
    struct sched_node *n = node_of(core, "n", 1, "python", 0);
    struct sched_proc *sp = DBX_NEW(struct sched_proc);

    sp->id = dbx_id_new();
    sp->blob = dbx_malloc(10);
    sp->blob_len = 10;
    sched_core_adopt(core, sp, n, /* running= */ true);
    CHECK(sched_core_find(core, &sp->id) == sp);
    CHECK(sp->state == SCHED_RUNNING && n->nprocs == 1);
    CHECK_EQ(sched_core_blob_bytes(core), 10);
    sched_proc_drop_blob(core, sp);
    CHECK_EQ(sched_core_blob_bytes(core), 0);
    sched_core_free(core);
}

static struct sched_proc *joining(struct sched_core *core, uint8_t sandbox)
{
    struct sched_proc *sp = DBX_NEW(struct sched_proc);

    sp->id = dbx_id_new();
    sp->workspace = true;
    sp->sandbox.b[0] = sandbox;
    (void)dbx_strcpy(sp->template, sizeof(sp->template), "python");
    sched_core_add(core, sp);
    return sp;
}

/* Who shares its batch's sandboxes goes where one waits, but no two for the same one. */
static void test_lanes(void)
{
    struct sched_core *core = sched_core_new(100);
    struct sched_node *a = node_of(core, "a", 8, "python", 2);
    struct sched_node *b = node_of(core, "b", 4, "python", 0);
    struct dbx_id id = dbx_id_new();
    struct sched_batch *batch = sched_core_batch(core, &id, true);
    struct sched_proc *sp[3];

    b->cap.lanes[b->cap.nlanes++] = id;
    for (int i = 0; i < 3; i++) {
        sp[i] = DBX_NEW(struct sched_proc);
        sp[i]->id = dbx_id_new();
        sp[i]->batch = batch;
        (void)dbx_strcpy(sp[i]->template, sizeof(sp[i]->template), "python");
        sched_core_add(core, sp[i]);
    }
    CHECK(sched_core_assign(core, 0) == sp[0] && sp[0]->node == a); /* it does not share */
    batch->shares = true;
    CHECK(sched_core_assign(core, 0) == sp[1] && sp[1]->node == b);
    CHECK(sched_core_assign(core, 0) == sp[2] && sp[2]->node == a);
    sched_core_free(core);
}

/* The sandbox of a workspace takes one slot, and all its processes go where it stands. */
static void test_boxes(void)
{
    struct sched_core *core = sched_core_new(100);
    struct sched_node *a = node_of(core, "a", 1, "python", 1);
    struct sched_node *b = node_of(core, "b", 5, "python", 0);
    struct sched_proc *first = joining(core, 1), *second = joining(core, 1);

    CHECK(sched_core_assign(core, 0) == first && first->node == a);
    CHECK(sched_core_assign(core, 0) == second && second->node == a);
    CHECK(a->nboxes == 1 && a->njoined == 2 && a->nprocs == 2);
    /* Others find a full, and go elsewhere; those that join wait for nobody's room. */
    struct sched_proc *other = joining(core, 2);
    CHECK(sched_core_assign(core, 0) == other && other->node == b);
    struct sched_proc *third = joining(core, 1);
    CHECK(sched_core_assign(core, 0) == third && third->node == a);
    /* Known while somebody is in it, then while the node says so. */
    struct dbx_id sandbox = first->sandbox;
    sched_core_box_live(core, &sandbox, a);
    sched_core_remove(core, first);
    sched_core_remove(core, second);
    sched_core_remove(core, third);
    CHECK(sched_core_box_node(core, &sandbox) == a && a->njoined == 0);
    sched_core_box_gone(core, &sandbox, b);
    CHECK(sched_core_box_node(core, &sandbox) == a);
    /* Its node is away: it steps aside, and nobody behind it has to wait. */
    a->online = false;
    struct sched_proc *waits = joining(core, 1), *goes = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == goes && goes->node == b);
    CHECK(sched_core_assign(core, 1) == NULL);
    a->online = true;
    CHECK(sched_core_assign(core, 50) == NULL);
    CHECK(sched_core_assign(core, 200) == waits && waits->node == a);
    /* Its node is lost: the next process may go anywhere. */
    CHECK(sched_core_expire(core, 2000) != NULL && sched_core_expire(core, 2000) != NULL);
    sched_core_remove(core, waits);
    CHECK(sched_core_box_node(core, &sandbox) == NULL && a->nboxes == 0);
    sched_core_free(core);
}

/* One that no process waits for chooses as a process does, and takes a slot. */
static void test_ordered_boxes(void)
{
    struct sched_core *core = sched_core_new(100);
    struct sched_node *a = node_of(core, "a", 1, "python", 1);
    const struct dbx_size *size = dbx_size_find(DBX_SIZE_DEFAULT);
    struct sched_proc *sp = joining(core, 1);
    struct dbx_id other = dbx_id_new();

    a->cap.sizes = dbx_size_bit(size);
    CHECK(sched_core_box_place(core, &sp->sandbox, "none", size, 0) == NULL);
    CHECK(sched_core_box_place(core, &sp->sandbox, "python", size, 0) == a && a->nboxes == 1);
    CHECK(sched_core_box_place(core, &sp->sandbox, "python", size, 0) == a && a->nboxes == 1);
    CHECK(sched_core_box_place(core, &other, "python", size, 0) == NULL); /* no room */
    CHECK(sched_core_assign(core, 0) == sp && sp->node == a && a->nboxes == 1);
    sched_core_box_gone(core, &sp->sandbox, a); /* refused: the process still stands there */
    CHECK(sched_core_box_node(core, &sp->sandbox) == a);
    sched_core_free(core);
}

/* A full node ends a sandbox that has no process, for who is waited for: not for a batch, nor for
 * what is ordered ahead; and where there is room, everything stays. */
static void test_idle_boxes_give_way(void)
{
    struct sched_core *core = sched_core_new(100);
    struct sched_node *a = node_of(core, "a", 2, "python", 1);
    const struct dbx_size *size = dbx_size_find(DBX_SIZE_DEFAULT);
    const struct dbx_id one = {{1}}, two = {{2}}, three = {{3}};
    struct dbx_id batch = dbx_id_new();

    a->cap.sizes = dbx_size_bit(size);
    CHECK(sched_core_box_place(core, &one, "python", size, 0) == a);
    CHECK(sched_core_box_place(core, &two, "python", size, 0) == a && a->nidle == 2);
    CHECK(sched_core_box_place(core, &three, "python", size, 0) == NULL);
    struct sched_proc *sp = DBX_NEW(struct sched_proc);
    sp->id = dbx_id_new();
    sp->batch = sched_core_batch(core, &batch, /* create= */ true);
    (void)dbx_strcpy(sp->template, sizeof(sp->template), "python");
    sched_core_add(core, sp);
    CHECK(sched_core_assign(core, 0) == NULL);
    sched_core_remove(core, sp);
    struct sched_node *b = node_of(core, "b", 1, "python", 0);
    struct sched_proc *free = proc_of(core, 1, "python"), *first = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == free && free->node == b);
    CHECK(sched_core_assign(core, 0) == first && first->node == a);
    /* Each is counted on once, whether its node has ended it yet or not. */
    struct sched_proc *second = proc_of(core, 1, "python"), *third = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == second && second->node == a);
    CHECK(sched_core_assign(core, 0) == NULL);
    sched_core_box_gone(core, &one, a);
    CHECK(a->nboxes == 1 && a->nidle == 1 && sched_core_assign(core, 0) == NULL);
    sched_core_remove(core, first);
    sched_core_remove(core, second);
    CHECK(sched_core_assign(core, 0) == third && third->node == a);
    /* One with a process gives nothing up. */
    struct sched_proc *in = joining(core, 2);
    CHECK(sched_core_assign(core, 0) == in && in->node == a && a->nidle == 0);
    struct sched_proc *waits = proc_of(core, 1, "python");
    CHECK(sched_core_assign(core, 0) == NULL);
    sched_core_remove(core, in);
    CHECK(a->nidle == 1 && sched_core_assign(core, 0) == waits);
    sched_core_free(core);
}

int main(void)
{
    test_choice();
    test_fair();
    test_back_off();
    test_batches();
    test_lost();
    test_adopt();
    test_boxes();
    test_ordered_boxes();
    test_idle_boxes_give_way();
    test_lanes();
    return check_result();
}

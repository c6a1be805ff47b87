/* SPDX-License-Identifier: Apache-2.0 */
/* The pool with sandboxes that are only said to be there. */
#include "shim/pool.h"

#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/io/loop.h"
#include "common/proto/sizes.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_FAKES 256

struct fake {
    struct shim_sandbox_opts opts;
    const struct shim_sandbox_handlers *h;
    void *user;
    bool ready, assigned, background, ended, gone;
    int warmed;
};

struct t {
    struct dbx_loop *loop;
    struct shim_node node;
    struct bnd_store *store;
    struct shim_pool *pool;
    struct fake fakes[MAX_FAKES];
    size_t n;
    bool stuck; /* sandboxes do not become ready by themselves */
    int given, refused, last_code;
    enum dbx_kind last_kind;
    struct fake *last;
    bool drained;
};
static struct t t;

static struct shim_sandbox *fake_create(void *ctx, const struct shim_sandbox_opts *opts,
                                        const struct shim_sandbox_handlers *h, void *user)
{
    CHECK(ctx == &t && t.n < MAX_FAKES);
    struct fake *f = &t.fakes[t.n++];
    *f = (struct fake){.opts = *opts, .h = h, .user = user};
    return (struct shim_sandbox *)(void *)f;
}

static void fake_assign(struct shim_sandbox *sb, uint32_t cpu_millis, bool background)
{
    (void)cpu_millis;
    struct fake *f = (struct fake *)(void *)sb;
    CHECK(f->ready && !f->assigned && !f->ended);
    f->assigned = true;
    f->background = background;
}

static void fake_end(struct shim_sandbox *sb)
{
    ((struct fake *)(void *)sb)->ended = true;
}

static void fake_warm_up(struct shim_sandbox *sb)
{
    struct fake *f = (struct fake *)(void *)sb;
    CHECK(f->ready && !f->assigned && !f->ended);
    f->warmed++;
}

static const struct shim_pool_source source = {
    .create = fake_create, .assign = fake_assign, .end = fake_end, .warm_up = fake_warm_up};

static void make_ready(struct fake *f)
{
    f->ready = true;
    f->h->on_ready((struct shim_sandbox *)(void *)f, f->user);
}

static void make_gone(struct fake *f)
{
    f->gone = true;
    f->h->on_gone((struct shim_sandbox *)(void *)f, f->user);
}

static void stop(void *user)
{
    (void)user;
    dbx_loop_stop(t.loop, 0);
}

/* Lets the loop come to rest, and the fakes do what real ones would. */
static void settle(void)
{
    struct dbx_timer *tm = dbx_timer_new(t.loop, stop, NULL);
    for (int i = 0; i < 30; i++) {
        dbx_timer_start(tm, 0, 0);
        dbx_loop_run(t.loop);
        for (size_t k = 0; k < t.n; k++) {
            struct fake *f = &t.fakes[k];
            if (f->ended && !f->gone)
                make_gone(f);
            else if (!f->ready && !f->gone && !t.stuck)
                make_ready(f);
        }
    }
    dbx_timer_free(tm);
}

static void run_for(uint64_t ms)
{
    struct dbx_timer *tm = dbx_timer_new(t.loop, stop, NULL);
    dbx_timer_start(tm, ms, 0);
    dbx_loop_run(t.loop);
    dbx_timer_free(tm);
}

static void on_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    (void)user;
    CHECK(!sb != !err);
    t.given += sb != NULL;
    t.refused += err != NULL;
    t.last = (struct fake *)(void *)sb;
    t.last_code = err ? err->code : 0;
    t.last_kind = err ? err->kind : DBX_OK;
}

static void begin(struct shim_pool_opts o)
{
    t.n = 0;
    t.given = t.refused = 0;
    t.stuck = t.drained = false;
    o.node = &t.node;
    o.store = t.store;
    o.source = &source;
    o.source_ctx = &t;
    t.pool = shim_pool_new(&o);
}

static void on_drained(void *user)
{
    (void)user;
    t.drained = true;
}

static void finish(void)
{
    for (size_t i = 0; i < t.n; i++)
        t.fakes[i].ended = t.fakes[i].ended || t.fakes[i].assigned;
    shim_pool_drain(t.pool, on_drained, NULL);
    settle();
    CHECK(t.drained);
    shim_pool_free(t.pool);
}

static struct shim_claim *claim(struct shim_claim_opts o)
{
    if (!o.template)
        o.template = "python";
    struct shim_claim *cl = shim_pool_claim(t.pool, &o, on_claimed, NULL);
    return cl;
}

static const struct shim_pool_template_counts *counts(const char *name)
{
    static struct shim_pool_counts c;
    shim_pool_counts(t.pool, &c);
    for (size_t i = 0; i < c.n_templates; i++)
        if (strcmp(c.templates[i].name, name) == 0)
            return &c.templates[i];
    return NULL;
}

static void test_fills_and_gives(void)
{
    begin((struct shim_pool_opts){.warm = 2, .max_starts = 1});
    settle();
    CHECK_EQ(t.n, 0); /* not started */
    shim_pool_start(t.pool);
    settle();
    CHECK_EQ(counts("python")->warm, 2);
    CHECK_EQ(counts("node")->warm, 0); /* no image */
    CHECK_EQ(t.fakes[0].opts.disk_mb, 256);
    CHECK(t.fakes[0].warmed == 1 && t.fakes[1].warmed == 1);
    t.stuck = true;
    uint64_t t0 = dbx_now_ms();
    claim((struct shim_claim_opts){0});
    CHECK_EQ(t.given, 0); /* never before it returned */
    settle();
    CHECK_EQ(t.given, 1);
    CHECK(t.last->assigned && !t.last->ended);
    CHECK_EQ(counts("python")->claimed, 1);
    /* it has the machine for itself, for a moment */
    CHECK(counts("python")->starting == 0 || dbx_now_ms() - t0 >= 100);
    run_for(150);
    CHECK_EQ(counts("python")->starting, 1); /* the next is on its way */
    finish();
}

static void test_made_to_measure(void)
{
    begin((struct shim_pool_opts){.warm = 1, .max_starts = 2});
    shim_pool_start(t.pool);
    settle();
    claim((struct shim_claim_opts){.disk_mb = 64, .memory_mb = 512, .processes = 7});
    settle();
    CHECK_EQ(t.given, 1);
    CHECK_EQ(t.last->opts.disk_mb, 64);
    CHECK(t.last->opts.memory_mb >= 512);
    CHECK_EQ(t.last->opts.processes, 7);
    CHECK_EQ(counts("python")->warm, 1); /* untouched */
    /* One that is cancelled while its start is under way is not kept: it is of other sizes. */
    t.stuck = true;
    struct shim_claim *cl = claim((struct shim_claim_opts){.disk_mb = 65});
    settle();
    shim_claim_cancel(cl);
    settle();
    CHECK_EQ(t.last_code, -ECANCELED);
    CHECK(t.fakes[t.n - 1].ended);
    finish();
}

/* One of the size of most workspaces is there for each template, whatever its CPU will be; an
 * execution does not get it. */
static void test_workspaces(void)
{
    const struct dbx_size *usual = dbx_size_find(DBX_SIZE_DEFAULT);
    const struct shim_claim_opts opts = {.disk_mb = usual->disk_mb,
                                         .memory_mb = usual->memory_mb,
                                         .cpu_millis = usual->cpu_millis,
                                         .workspace = true};
    begin((struct shim_pool_opts){.warm = -1, .max_starts = 4});
    shim_pool_start(t.pool);
    settle();
    size_t made = t.n;
    CHECK_EQ(counts("python")->workspace_warm, 1);
    CHECK_EQ(counts("python")->warm, counts("python")->target);
    t.stuck = true;
    claim(opts);
    settle();
    CHECK_EQ(t.given, 1);
    CHECK(t.last->opts.plain && t.last->opts.disk_mb == usual->disk_mb);
    CHECK_EQ(counts("python")->workspace_warm, 0);
    CHECK_EQ(t.n, made);
    claim((struct shim_claim_opts){.disk_mb = usual->disk_mb});
    settle();
    bool measured = false;
    for (size_t i = made; i < t.n; i++)
        measured |= !t.fakes[i].opts.plain && t.fakes[i].opts.disk_mb == usual->disk_mb;
    CHECK(measured);
    CHECK_EQ(t.given, 1);
    made = t.n;
    claim((struct shim_claim_opts){.disk_mb = usual->disk_mb + 1, .workspace = true});
    settle();
    CHECK(t.n == made + 1 && t.fakes[made].opts.plain); /* of any size */
    finish();
}

/* What belongs to a batch leaves those that are warm to who is alone, as long as there is room. */
static void test_background(void)
{
    begin((struct shim_pool_opts){.warm = 2, .max_starts = 4, .max_sandboxes = 10});
    shim_pool_start(t.pool);
    settle();
    size_t made = t.n;
    claim((struct shim_claim_opts){.background = true});
    settle();
    CHECK_EQ(t.given, 1);
    CHECK(t.last == &t.fakes[made] && t.last->opts.weight == SHIM_WEIGHT_IDLE);
    CHECK(t.last->background); /* nothing lifts it on the way */
    CHECK_EQ(counts("python")->warm, 2);
    finish();

    begin((struct shim_pool_opts){.warm = 2, .max_starts = 4, .max_sandboxes = 2});
    shim_pool_start(t.pool);
    settle();
    claim((struct shim_claim_opts){.background = true});
    settle();
    CHECK_EQ(t.given, 1);
    CHECK(t.last == &t.fakes[0] || t.last == &t.fakes[1]);
    finish();
}

/* A batch has as many starts under way as there are processors, however many of it wait; neither
 * who is alone nor the pool itself waits behind these. */
static void test_beside_a_batch(void)
{
    begin((struct shim_pool_opts){.warm = 1, .max_starts = 2, .max_sandboxes = 20});
    t.stuck = true;
    for (int i = 0; i < 5; i++)
        claim((struct shim_claim_opts){.background = true});
    shim_pool_start(t.pool);
    settle();
    uint32_t theirs = 0;
    for (size_t i = 0; i < t.n; i++)
        theirs += t.fakes[i].opts.weight == SHIM_WEIGHT_IDLE;
    CHECK_EQ(theirs, 2);
    CHECK_EQ(counts("python")->starting, 3);
    size_t made = t.n;
    claim((struct shim_claim_opts){0}); /* takes over the pool's own, which goes on with another */
    settle();
    CHECK_EQ(t.n, made + 1);
    CHECK_EQ(t.given, 0);
    t.stuck = false;
    settle();
    CHECK_EQ(t.given, 6);
    CHECK_EQ(counts("python")->warm, 1);
    finish();
}

static void test_takes_over_a_start(void)
{
    begin((struct shim_pool_opts){.warm = 1, .max_starts = 1});
    t.stuck = true;
    shim_pool_start(t.pool);
    settle();
    CHECK_EQ(t.n, 1);
    claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(t.n, 1); /* no second one for it, and the pool's own may not start beside it */
    claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(t.n, 2); /* a claim may */
    make_ready(&t.fakes[0]);
    make_ready(&t.fakes[1]);
    settle();
    CHECK_EQ(t.given, 2);
    CHECK(!t.fakes[0].warmed && !t.fakes[1].warmed); /* who waits is not kept waiting for that */
    finish();
}

/* A start that was waited for is nobody's when its claim got another sandbox: it must not be
 * forgotten. */
static void test_overtaken_start(void)
{
    begin((struct shim_pool_opts){.warm = 1, .max_starts = 1});
    t.stuck = true;
    shim_pool_start(t.pool);
    settle();
    claim((struct shim_claim_opts){0}); /* takes over the pool's start */
    settle();
    struct shim_claim *second = claim((struct shim_claim_opts){0}); /* and this one has its own */
    settle();
    CHECK_EQ(t.n, 2);
    shim_claim_cancel(second);
    make_ready(&t.fakes[1]); /* sooner than the first, and free */
    settle();
    CHECK_EQ(t.given, 1);
    CHECK(t.last == &t.fakes[1]);
    make_ready(&t.fakes[0]);
    settle();
    CHECK_EQ(counts("python")->warm, 1);
    finish();
    CHECK(t.fakes[0].gone);
}

static void test_refusals(void)
{
    begin((struct shim_pool_opts){
        .warm = 0, .max_starts = 1, .max_sandboxes = 1, .memory_mb = 1000, .max_waiting = 2});
    shim_pool_start(t.pool);
    claim((struct shim_claim_opts){.template = "cobol"});
    settle();
    CHECK_EQ(t.last_kind, DBX_NOT_FOUND);
    claim((struct shim_claim_opts){.template = "node"});
    settle();
    CHECK_EQ(t.last_kind, DBX_UNAVAIL);
    claim((struct shim_claim_opts){.memory_mb = 2000});
    settle();
    CHECK_EQ(t.last_kind, DBX_LIMIT);
    shim_pool_hold(t.pool, "it limps");
    claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(t.last_kind, DBX_UNAVAIL);
    shim_pool_hold(t.pool, NULL);
    claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(t.given, 1);
    struct fake *first = t.last;
    claim((struct shim_claim_opts){.wait_ms = 1000});
    claim((struct shim_claim_opts){0});
    claim((struct shim_claim_opts){0}); /* the queue is full */
    settle();
    CHECK_EQ(t.last_kind, DBX_LIMIT);
    run_for(1100);
    settle();
    CHECK_EQ(t.last_kind, DBX_TIMEOUT);
    CHECK_EQ(t.given, 1);
    first->ended = true; /* by its owner: the next has its turn */
    settle();
    CHECK_EQ(t.given, 2);
    CHECK_EQ(t.refused, 6);
    finish();
}

static void test_budget_and_eviction(void)
{
    begin(
        (struct shim_pool_opts){.warm = 4, .max_starts = 4, .max_sandboxes = 4, .memory_mb = 900});
    shim_pool_start(t.pool);
    settle();
    CHECK_EQ(counts("python")->warm, 4);
    /* Another size: a warm one goes for it. */
    claim((struct shim_claim_opts){.disk_mb = 1, .memory_mb = 100});
    settle();
    CHECK_EQ(t.given, 1);
    CHECK_EQ(counts("python")->warm, 3);
    /* Promised memory: 132 + 2 * 332 fit into 900, the warm ones' overhead does not beside them. */
    claim((struct shim_claim_opts){.memory_mb = 300});
    settle();
    CHECK_EQ(t.given, 2);
    claim((struct shim_claim_opts){.memory_mb = 800, .wait_ms = 20});
    settle();
    CHECK_EQ(t.given, 2);
    run_for(40);
    settle();
    CHECK_EQ(t.last_kind, DBX_TIMEOUT);
    finish();
}

static void test_failed_starts(void)
{
    struct dbx_err why = {0};
    dbx_err_set(&why, -EIO, DBX_INTERNAL, "no luck");
    begin((struct shim_pool_opts){.warm = 1, .max_starts = 1});
    t.stuck = true;
    shim_pool_start(t.pool);
    settle();
    t.fakes[0].ended = true;
    uint64_t t0 = dbx_now_ms();
    t.fakes[0].h->on_lost((struct shim_sandbox *)(void *)&t.fakes[0], &why, t.fakes[0].user);
    settle();
    CHECK(t.n == 1 || dbx_now_ms() - t0 >= 500); /* not again at once */
    t.stuck = false;
    run_for(600);
    settle();
    CHECK_EQ(t.n, 2);
    CHECK_EQ(counts("python")->warm, 1);
    t.stuck = true;
    claim((struct shim_claim_opts){.disk_mb = 3});
    settle();
    /* Who waits for it gets another try, and then is told. */
    for (int tries = 1; tries <= 2; tries++) {
        CHECK_EQ(t.n, 2 + tries);
        CHECK_EQ(t.refused, 0);
        struct fake *f = &t.fakes[t.n - 1];
        f->ended = true;
        f->h->on_lost((struct shim_sandbox *)(void *)f, &why, f->user);
        settle();
    }
    CHECK_EQ(t.refused, 1);
    CHECK_EQ(t.last_kind, DBX_INTERNAL);
    finish();
}

static void test_many(void)
{
    begin((struct shim_pool_opts){.warm = 3, .max_starts = 2, .max_sandboxes = 20});
    shim_pool_start(t.pool);
    settle();
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 20; i++)
            claim((struct shim_claim_opts){0});
        for (int i = 0; i < 20 && t.given < 20 * (round + 1); i++) {
            settle();
            for (size_t k = 0; k < t.n; k++)
                t.fakes[k].ended = t.fakes[k].ended || t.fakes[k].assigned;
        }
        CHECK_EQ(t.given, 20 * (round + 1));
    }
    finish();
}

static void test_states(void)
{
    static const char *const may[] = {
        "provisioning warm", "provisioning terminating", "warm assigned",
        "warm terminating",  "assigned running",         "assigned terminating",
        "running idle",      "running terminating",      "idle running",
        "idle terminating",  "terminating terminated",
    };
    size_t n = 0;
    for (int from = 0; from < SHIM_SB_STATES; from++)
        for (int to = 0; to < SHIM_SB_STATES; to++) {
            char text[64];
            bool listed = false;
            snprintf(text, sizeof(text), "%s %s", shim_sb_state_name(from), shim_sb_state_name(to));
            for (size_t i = 0; i < DBX_ARRAY_LEN(may); i++)
                listed = listed || strcmp(may[i], text) == 0;
            CHECK_EQ(shim_sb_may(from, to), listed);
            n += shim_sb_may(from, to);
        }
    CHECK_EQ(n, DBX_ARRAY_LEN(may));
    CHECK(!shim_sb_may(SHIM_SB_STATES, SHIM_SB_WARM));
}

static void test_demand(void)
{
    begin(
        (struct shim_pool_opts){.warm = -1, .max_starts = 2, .max_sandboxes = 40, .max_warm = 12});
    shim_pool_start(t.pool);
    settle();
    CHECK_EQ(counts("python")->warm, 4); /* its floor */
    for (int i = 0; i < 9; i++)
        claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(t.given, 9);
    CHECK_EQ(counts("python")->target, 9);
    run_for(150);
    settle();
    CHECK_EQ(counts("python")->warm, 9);
    for (int i = 0; i < 20; i++)
        claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(counts("python")->target, 12); /* the ceiling */
    finish();
}

static void put_image(const char *cache, char letter);

/* What was made of the old image goes, but for what somebody has. */
static void test_rebuilt_image(const char *cache)
{
    begin((struct shim_pool_opts){.warm = 2, .max_starts = 2});
    shim_pool_start(t.pool);
    settle();
    claim((struct shim_claim_opts){0});
    settle();
    struct fake *mine = t.last;
    run_for(150);
    settle();
    size_t made = t.n;
    CHECK_EQ(made, 3);
    put_image(cache, 'b');
    run_for(1200); /* it looks every second */
    settle();
    CHECK(!mine->ended && t.fakes[made - 1].ended && t.fakes[made - 2].ended);
    CHECK_EQ(counts("python")->warm, 2);
    finish();
}

static void put_image(const char *cache, char letter)
{
    char digest[BND_DIGEST_LEN + 1] = "";
    struct dbx_err err = {0};
    memset(digest, letter, BND_DIGEST_LEN);
    DBX_CLEANUP(dbx_freep) char *dir = dbx_asprintf("%s/images", cache);
    DBX_CLEANUP(dbx_freep) char *image = dbx_asprintf("%s/%s.erofs", dir, digest);
    DBX_CLEANUP(dbx_freep) char *manifest = dbx_asprintf("%s/python.json", dir);
    DBX_CLEANUP(dbx_freep)
    char *text = dbx_asprintf(
        "{\"template\":\"python\",\"digest\":\"%s\",\"bytes\":4,\"key\":\"k\"}", digest);
    CHECK_EQ(dbx_fs_mkdirs(dir, 0755, &err), 0);
    CHECK_EQ(dbx_fs_write_atomic(image, "abcd", 4, 0644, &err), 0);
    CHECK_EQ(dbx_fs_write_atomic(manifest, text, strlen(text), 0644, &err), 0);
}

/* A cache in which only python has an image. */
static void open_store(const char *cache)
{
    struct dbx_err err = {0};
    put_image(cache, 'a');
    if (bnd_store_open(cache, "../bundles/templates", &t.store, &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
    CHECK(bnd_template_find(t.store, "python")->image != NULL);
}

static int asked;
static struct fake *spare;
static struct shim_sandbox *on_pressure(void *user)
{
    CHECK(user == &t);
    asked++;
    struct fake *f = spare;
    spare = NULL;
    if (f)
        f->ended = true;
    return (struct shim_sandbox *)(void *)f;
}

/* Who waits gets the room of a claimed one that can be spared, one for each; a batch, and what is
 * ordered ahead, wait; and these hold up nobody. */
static void test_pressure(void)
{
    begin((struct shim_pool_opts){.warm = 0, .max_starts = 2, .max_sandboxes = 2});
    shim_pool_on_pressure(t.pool, on_pressure, &t);
    shim_pool_start(t.pool);
    claim((struct shim_claim_opts){0});
    claim((struct shim_claim_opts){.workspace = true, .ahead = true});
    settle();
    CHECK(t.given == 2 && asked == 0);
    struct shim_claim *ahead = claim((struct shim_claim_opts){.workspace = true, .ahead = true});
    settle();
    CHECK(t.given == 2 && asked == 0);
    spare = &t.fakes[1];
    claim((struct shim_claim_opts){0});
    claim((struct shim_claim_opts){0});
    settle();
    CHECK_EQ(asked, 0); /* what ends by itself may be enough */
    run_for(300);
    settle();
    CHECK(t.given == 3 && t.fakes[1].gone);
    int before = asked;
    spare = &t.fakes[0];
    run_for(600); /* it asks again by itself */
    settle();
    CHECK(t.given == 4 && asked > before && t.fakes[0].gone);
    before = asked;
    run_for(600);
    CHECK_EQ(asked, before); /* nobody is left who may */
    spare = &t.fakes[2];
    shim_claim_wanted(ahead); /* it has waited for long enough */
    settle();
    CHECK(t.given == 5 && t.fakes[2].gone);
    finish();
}

int main(void)
{
    char cache[] = "/tmp/dbx-pool-XXXXXX";
    if (!mkdtemp(cache))
        return 1;
    t.loop = dbx_loop_new();
    t.node.loop = t.loop;
    open_store(cache);
    test_states();
    test_demand();
    test_rebuilt_image(cache);
    test_fills_and_gives();
    test_made_to_measure();
    test_background();
    test_beside_a_batch();
    test_workspaces();
    test_takes_over_a_start();
    test_overtaken_start();
    test_refusals();
    test_budget_and_eviction();
    test_failed_starts();
    test_many();
    test_pressure();
    bnd_store_free(t.store);
    dbx_loop_free(t.loop);
    CHECK_EQ(dbx_fs_remove_tree(cache, NULL), 0);
    return check_result();
}

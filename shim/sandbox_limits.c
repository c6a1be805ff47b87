/* SPDX-License-Identifier: Apache-2.0 */
/* Limits and measures of a phase. The cgroup holds the program and the runtime together; what the
 * runtime uses when the phase begins is not the program's, so it is added to the limit and taken
 * off the peak. Cache of files on disk (the image, the writable layer) is charged to the cgroup
 * too, but gives way under pressure: it counts neither here nor there. The kernel keeps only the
 * peak of the sum; so the peak reported is the larger of (the kernel's peak less the cache now) and
 * what was seen at each reading. */
#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "shim/sandbox_int.h"

#include <errno.h>

/* The runtime grows with what the program does (page tables, its own tables): room for that, so
 * that a program that stays within its limit is not killed. */
#define HEADROOM(bytes) ((8ull << 20) + (bytes) / 64)

/* What the runtime keeps for each process of the program: a sleeping one costs about so much in
 * all. "The runtime's own overhead is not charged to memory_mb." */
#define RUNTIME_BYTES_PER_PROCESS (512ull << 10)

#define MEASURE_MS 1000

static uint64_t without(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t own_bytes(const struct shim_cgroup_stat *st)
{
    return without(st->memory_bytes, st->file_bytes);
}

void shim_sb__note_idle(struct shim_sandbox *sb)
{
    struct shim_cgroup_stat st;
    if (shim_cgroup_read(sb->cg, &st) == 0)
        sb->idle_bytes = own_bytes(&st);
}

uint64_t shim_sandbox_rest(struct shim_sandbox *sb, bool first, bool server)
{
    struct shim_cgroup_stat st;
    if (!sb->cg || shim_cgroup_read(sb->cg, &st) < 0)
        return 0;
    if (first && server)
        sb->parked_bytes = without(own_bytes(&st), sb->idle_bytes);
    sb->idle_bytes = without(own_bytes(&st), sb->parked_bytes);
    return st.pids;
}

/* What is parked counts as the program that it becomes, as if that had started it; no limit is set
 * below what is used now. */
static uint64_t base_bytes(const struct shim_sandbox *sb, const struct shim_cgroup_stat *st,
                           uint64_t bytes)
{
    uint64_t own = own_bytes(st);
    if (!sb->opts.tpl->parked.run || sb->opts.plain || own < sb->idle_bytes ||
        own > sb->idle_bytes + bytes)
        return own;
    return sb->idle_bytes;
}

int shim_sandbox_set_limits(struct shim_sandbox *sb, uint64_t memory_mb, uint32_t processes,
                            struct dbx_err *err)
{
    struct shim_cgroup_stat st;
    if (!sb->cg || sb->state >= SHIM_SB_TERMINATING)
        return dbx_err_set(err, -ECHILD, DBX_UNAVAIL, "the sandbox has ended");
    int r = shim_cgroup_read(sb->cg, &st);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "read the cgroup of sandbox %s", sb->id_text);
    uint64_t bytes = memory_mb << 20;
    if (!sb->idle_bytes)
        sb->idle_bytes = own_bytes(&st);
    const struct shim_cgroup_limits limits = {
        .memory_bytes = base_bytes(sb, &st, bytes) + bytes + HEADROOM(bytes) +
                        RUNTIME_BYTES_PER_PROCESS * processes,
        .cpu_millis = sb->opts.cpu_millis,
        .processes = processes,
    };
    r = shim_cgroup_set(sb->cg, &limits, err);
    if (r < 0)
        return r;
    if (shim_cgroup_reset_peak(sb->cg) == 0) /* where it cannot be, the mark's peak tells */
        st.memory_peak_bytes = st.memory_bytes;
    sb->limit_bytes = bytes;
    sb->mark = st;
    sb->last = (struct shim_sandbox_usage){0};
    shim_sb__save(sb);
    return 0;
}

int shim_sandbox_mark(struct shim_sandbox *sb, struct dbx_err *err)
{
    if (!sb->cg || sb->state >= SHIM_SB_TERMINATING)
        return dbx_err_set(err, -ECHILD, DBX_UNAVAIL, "the sandbox has ended");
    int r = shim_cgroup_read(sb->cg, &sb->mark);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "read the cgroup of sandbox %s", sb->id_text);
    sb->last = (struct shim_sandbox_usage){0};
    shim_sb__save(sb);
    return 0;
}

void shim_sandbox_count_parked(struct shim_sandbox *sb)
{
    uint64_t used = without(own_bytes(&sb->mark), sb->idle_bytes);
    sb->last.memory_peak_bytes =
        (int64_t)(sb->limit_bytes && used > sb->limit_bytes ? sb->limit_bytes : used);
}

static void note_spent(struct shim_sandbox *sb, const struct shim_cgroup_stat *st)
{
    sb->last.cpu_ms = (int64_t)(without(st->cpu_us, sb->mark.cpu_us) / 1000);
    sb->last.oom_kills = without(st->oom_kills, sb->mark.oom_kills);
    sb->last.oom = sb->last.oom || st->oom_kills > sb->mark.oom_kills;
}

/* Two files instead of six; memory is looked at too, for the kernel's peak does not tell all. */
void shim_sandbox_spent(struct shim_sandbox *sb, struct shim_sandbox_usage *ret)
{
    struct shim_cgroup_stat st;
    if (dbx_now_ms() - sb->measured_ms >= MEASURE_MS) {
        shim_sandbox_usage(sb, ret);
        return;
    }
    if (sb->cg && shim_cgroup_spent(sb->cg, &st) == 0)
        note_spent(sb, &st);
    *ret = sb->last;
}

uint64_t shim_sandbox_disk_bytes(const struct shim_sandbox *sb)
{
    return sb->opts.disk_mb << 20;
}

void shim_sandbox_usage(struct shim_sandbox *sb, struct shim_sandbox_usage *ret)
{
    struct shim_cgroup_stat st;
    sb->measured_ms = dbx_now_ms();
    if (sb->cg && shim_cgroup_read(sb->cg, &st) == 0) {
        /* What an earlier phase left behind in the runtime is given back while this one runs. */
        uint64_t base =
            own_bytes(&sb->mark) < sb->idle_bytes ? own_bytes(&sb->mark) : sb->idle_bytes;
        uint64_t now = without(own_bytes(&st), base);
        uint64_t peak = now;
        /* An old peak says nothing about this phase. */
        if (st.memory_peak_bytes > sb->mark.memory_peak_bytes)
            peak = without(st.memory_peak_bytes, st.file_bytes + base);
        if (peak < now)
            peak = now;
        if (sb->limit_bytes && peak > sb->limit_bytes)
            peak = sb->limit_bytes;
        note_spent(sb, &st);
        sb->last.memory_bytes = (int64_t)now;
        if ((int64_t)peak > sb->last.memory_peak_bytes)
            sb->last.memory_peak_bytes = (int64_t)peak;
    }
    *ret = sb->last;
}

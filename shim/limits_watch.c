/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/limits_watch.h"

void shim_watch_begin(struct shim_limits_watch *w, uint64_t cpu_ms, uint64_t wall_ms, uint32_t ncpu,
                      uint64_t now_ms)
{
    *w = (struct shim_limits_watch){
        .cpu_ms = cpu_ms, .wall_ms = wall_ms, .ncpu = ncpu ? ncpu : 1, .began_ms = now_ms};
}

void shim_watch_hold(struct shim_limits_watch *w, bool held, uint64_t now_ms)
{
    if (held && !w->held_since_ms)
        w->held_since_ms = now_ms ? now_ms : 1;
    if (!held && w->held_since_ms) {
        w->held_ms += now_ms - w->held_since_ms;
        w->held_since_ms = 0;
    }
}

uint64_t shim_watch_wall_ms(const struct shim_limits_watch *w, uint64_t now_ms)
{
    uint64_t held = w->held_ms + (w->held_since_ms ? now_ms - w->held_since_ms : 0);
    uint64_t wall = now_ms - w->began_ms;
    return wall > held ? wall - held : 0;
}

enum shim_over shim_watch_check(const struct shim_limits_watch *w, uint64_t now_ms, uint64_t cpu_ms,
                                bool oom, uint64_t *ret_next_ms)
{
    uint64_t wall = shim_watch_wall_ms(w, now_ms);
    *ret_next_ms = SHIM_WATCH_MAX_MS;
    if (oom)
        return SHIM_OVER_OOM;
    if (cpu_ms >= w->cpu_ms)
        return SHIM_OVER_CPU;
    if (wall >= w->wall_ms)
        return SHIM_OVER_WALL;

    uint64_t next = (w->cpu_ms - cpu_ms) / w->ncpu;
    if (next < SHIM_WATCH_MIN_MS)
        next = SHIM_WATCH_MIN_MS;
    if (!w->held_since_ms && w->wall_ms - wall < next)
        next = w->wall_ms - wall;
    if (next < *ret_next_ms)
        *ret_next_ms = next;
    return SHIM_OVER_NOT;
}

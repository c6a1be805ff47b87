/* SPDX-License-Identifier: Apache-2.0 */
/* Claims come in bursts (a class runs its exercise), and a burst is what a pool is for: an average
 * over minutes would hold next to nothing. So the arrival rate is the highest of any window lately,
 * and fades with a half-life. Times the time it takes to make one, by as many hands as there are,
 * it would be the number that is always on its way; but while a burst lasts the machine is busy
 * with the programs and makes none (pool.c, calm): at least a window of it must be there. */
#include "shim/demand.h"

#include <math.h>

#define WINDOW_MS 1000
#define HALF_LIFE_MS 120000.0
#define SMOOTHING 0.2

static double faded(double value, uint64_t since, uint64_t now)
{
    return value * exp2(-(double)(now - since) / HALF_LIFE_MS);
}

void shim_demand_claim(struct shim_demand *d, uint64_t now)
{
    if (now - d->window_ms >= WINDOW_MS) {
        d->window_ms = now;
        d->count = 0;
    }
    d->count++;
    if (d->count >= faded(d->peak, d->peak_ms, now)) {
        d->peak = d->count;
        d->peak_ms = now;
    }
}

/* Who waits for each run before the next asks the slower, the fewer are warm: the rate alone would
 * call a pool that is too small large enough. */
void shim_demand_missed(struct shim_demand *d, uint64_t now)
{
    d->missed = faded(d->missed, d->missed_ms, now) + 1;
    d->missed_ms = now;
}

void shim_demand_made(struct shim_demand *d, uint64_t took_ms)
{
    d->make_ms =
        d->make_ms > 0 ? d->make_ms + SMOOTHING * ((double)took_ms - d->make_ms) : (double)took_ms;
}

uint32_t shim_demand_target(const struct shim_demand *d, uint64_t now, uint32_t at_once,
                            uint32_t floor)
{
    double rate = faded(d->peak, d->peak_ms, now); /* a window */
    double windows = d->make_ms / (double)at_once / WINDOW_MS;
    double wanted = rate < 1 ? 0 : rate * (windows > 1 ? windows : 1);
    double short_of = floor + faded(d->missed, d->missed_ms, now);
    return (uint32_t)ceil((wanted > short_of ? wanted : short_of) -
                          0.25); /* it fades to the floor */
}

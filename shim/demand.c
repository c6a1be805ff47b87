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

static double faded(const struct shim_demand *d, uint64_t now)
{
    return d->peak * exp2(-(double)(now - d->peak_ms) / HALF_LIFE_MS);
}

void shim_demand_claim(struct shim_demand *d, uint64_t now)
{
    if (now - d->window_ms >= WINDOW_MS) {
        d->window_ms = now;
        d->count = 0;
    }
    d->count++;
    if (d->count >= faded(d, now)) {
        d->peak = d->count;
        d->peak_ms = now;
    }
}

void shim_demand_made(struct shim_demand *d, uint64_t took_ms)
{
    d->make_ms =
        d->make_ms > 0 ? d->make_ms + SMOOTHING * ((double)took_ms - d->make_ms) : (double)took_ms;
}

uint32_t shim_demand_target(const struct shim_demand *d, uint64_t now, uint32_t at_once)
{
    double rate = faded(d, now); /* a window */
    double windows = d->make_ms / (double)at_once / WINDOW_MS;
    if (rate < 1)
        return 0;
    return (uint32_t)ceil(rate * (windows > 1 ? windows : 1));
}

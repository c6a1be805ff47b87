/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox that somebody watches does not end for being idle: while a stream of it or a socket of
 * its workspace is open here, the scheduler is told so, a few times in each idle time. It ends with
 * the gateway, and the idle time begins. */
#pragma once

struct gw;
struct gw_keep;

struct gw_keep *gw_keep_new(struct gw *gw);
struct gw_keep *gw_keep_free(struct gw_keep *kp);
void gw_keep_soon(struct gw *gw); /* one more watches; also before gw_keep_new */

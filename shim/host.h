/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine gives the shim: looked at once, at its start, so that an operator reads what is
 * missing and what follows, before a sandbox fails of it. What only a sandbox can show is the
 * probe's (probe.h). */
#pragma once

#include "common/base/err.h"

struct dbx_log_ctx;
struct shim_cgroups;

struct shim_host_fact {
    const char *name;    /* as in the metric: "cap_sys_admin" */
    const char *without; /* what follows when it is missing */
    bool needed;         /* no sandbox without it */
    bool there;
};

#define SHIM_HOST_MAX 24

struct shim_host {
    struct shim_host_fact facts[SHIM_HOST_MAX];
    size_t n;
};

/* cgroups may be NULL: there are none (their facts are missing). */
void shim_host_look(const struct shim_cgroups *cgroups, uint32_t max_sandboxes,
                    struct shim_host *ret);
/* A line for each that is missing, and the metric devbox_shim_host{has="..."} for all. */
void shim_host_tell(const struct shim_host *host, const struct dbx_log_ctx *log);
/* The needed ones that are missing, in words; "" when there is nothing to say. */
void shim_host_lacks(const struct shim_host *host, char *ret, size_t size);

/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/config.h"

struct shim_config {
    char *listen, *scheduler, *node_id, *url, *keys, *ca_file, *tls_cert, *tls_key;
    char *state_dir, *cache_dir, *templates_dir, *layers_dir, *layers_url, *layers_keys, *runsc,
        *init, *shim_exec;
    char *keeper_socket, *registry_socket, *output_log, *cgroup_base, *log_level, *log_format;
    uint64_t cpu_weight, max_sandboxes, max_executions, memory_budget_mb, max_starts, warm,
        max_warm;
    uint64_t warm_memory_mb, warm_disk_mb, log_retain_bytes, log_segment_bytes, log_retain_ms,
        drain_ms, layers_max_bytes, layers_keep_s, layers_at_a_time, layers_hourly,
        layers_hourly_bytes;
};

extern const struct dbx_config_field shim_config_fields[];
extern const size_t shim_config_len;

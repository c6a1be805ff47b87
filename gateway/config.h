/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/config.h"

struct gw_config {
    char *listen, *database, *scheduler, *keys, *output_log, *templates_dir, *ide_dir,
        *admin_key_file;
    char *origins, *public_url, *oidc_issuer, *oidc_client_id, *oidc_secret_file, *oidc_ca_file,
        *tls_cert, *tls_key, *ca_file, *log_level, *log_format;
    uint64_t rate_per_second, rate_burst;
    uint64_t max_body, max_upload, drain_ms, wait_max_ms, db_pool, max_connections;
    uint64_t max_cpu_ms, max_wall_ms, max_memory_mb, max_output_bytes, max_processes;
    uint64_t max_open_files, max_disk_mb, workspace_idle_ms, workspace_max_ms;
    uint64_t session_seconds, max_batch_body, webhook_attempts, webhook_backoff_ms;
    char *webhook_allow, *blobs, *blob_keys_file;
    uint64_t blob_threshold, blob_sweep_ms;
    uint64_t archive_after_ms, archive_lease_ms, archive_max_bytes, archive_user_bytes;
};

extern const struct dbx_config_field gw_config_fields[];
extern const size_t gw_config_len;

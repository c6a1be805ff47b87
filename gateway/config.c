/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config.h"

#define STR(n, d, text)                                                                            \
    {                                                                                              \
#n, DBX_CONFIG_STRING, offsetof(struct gw_config, n), d, 0, 0, "", text                    \
    }
#define FILE_(n, d, text)                                                                          \
    {                                                                                              \
#n, DBX_CONFIG_PATH, offsetof(struct gw_config, n), d, 0, 0, "", text                      \
    }
#define NUM(n, d, lo, hi, unit, text)                                                              \
    {                                                                                              \
#n, DBX_CONFIG_U64, offsetof(struct gw_config, n), d, lo, hi, unit, text                   \
    }

const struct dbx_config_field gw_config_fields[] = {
    STR(listen, "127.0.0.1:7000", "Where to serve: ADDRESS:PORT, unix:PATH or fd:N."),
    STR(database, "", "How to reach PostgreSQL (a libpq connection string)."),
    STR(scheduler, "", "The scheduler's link, ws://HOST:PORT/gateway."),
    FILE_(keys, "", "The keyring that signs and checks tokens."),
    STR(output_log, "", "The output log: file:DIR or kafka:HOST:PORT."),
    FILE_(templates_dir, "", "The folder of template descriptions (NAME.json)."),
    FILE_(ide_dir, "", "The folder of the built IDE; without it there is none."),
    FILE_(admin_key_file, "", "The administrator's API key; it is made known at start."),
    STR(origins, "", "Origins besides our own that may open streams, with spaces between."),
    STR(public_url, "", "How browsers reach us, https://HOST, where that is not by our own name."),
    STR(oidc_issuer, "", "The identity provider people may sign in at (an OpenID Connect issuer)."),
    STR(oidc_client_id, "", "Who we are there."),
    FILE_(oidc_secret_file, "", "The client's secret there; none for a public client."),
    FILE_(oidc_ca_file, "", "Certificates to trust on the way there; else the system's."),
    FILE_(tls_cert, "", "Certificate (PEM) to serve TLS with."),
    FILE_(tls_key, "", "Its key (PEM)."),
    FILE_(ca_file, "", "Certificates to trust on links to other daemons (wss)."),
    NUM(max_body, "8388608", 1024, 64u << 20, "bytes", "The largest body of a request."),
    NUM(max_upload, "35651584", 1024, 40u << 20, "bytes",
        "The largest upload of files or an archive."),
    NUM(max_batch_body, "67108864", 1024, 64u << 20, "bytes", "The largest body of a batch."),
    NUM(max_connections, "12000", 16, 1000000, "", "Connections served at a time."),
    NUM(rate_per_second, "200", 0, 1000000, "",
        "Calls of the API a second, a user (or an address of who is nobody) at each gateway, an "
        "administrator a hundred times as many; 0: any."),
    NUM(rate_burst, "2000", 1, 1000000, "", "How many of them at once."),
    NUM(db_pool, "6", 1, 64, "", "Connections to the database; a third of them for reads."),
    NUM(drain_ms, "2000", 0, 600000, "ms", "How long requests may take to finish after SIGTERM."),
    NUM(wait_max_ms, "300000", 100, 3600000, "ms", "How long ?wait=true waits at most."),
    NUM(max_cpu_ms, "10000", 1, 86400000, "ms", "The largest limits.cpu_ms."),
    NUM(max_wall_ms, "30000", 1, 86400000, "ms", "The largest limits.wall_ms."),
    NUM(max_memory_mb, "256", 1, 1048576, "MB", "The largest limits.memory_mb."),
    NUM(max_output_bytes, "16777216", 1, 1u << 30, "bytes", "The largest limits.output_bytes."),
    NUM(max_processes, "64", 1, 65536, "", "The largest limits.processes."),
    NUM(max_open_files, "1024", 1, 1048576, "", "The largest limits.open_files."),
    NUM(max_disk_mb, "256", 1, 1048576, "MB", "The largest limits.disk_mb."),
    NUM(workspace_idle_ms, "600000", 100, 86400000, "ms",
        "How long the sandbox of a workspace stays when no process runs in it."),
    NUM(workspace_max_ms, "43200000", 1000, 604800000, "ms",
        "How long the sandbox of a workspace stays at most."),
    NUM(session_seconds, "2592000", 1, 31536000, "s", "How long somebody stays signed in."),
    STR(blobs, "",
        "Where large files stand: file:DIR, or s3:http[s]://HOST[:PORT]/BUCKET[/PREFIX]"
        "[?region=R]; without it all stand in the database."),
    FILE_(blob_keys_file, "",
          "A file with S3's ACCESS_KEY SECRET_KEY; else AWS_ACCESS_KEY_ID and "
          "AWS_SECRET_ACCESS_KEY."),
    NUM(blob_threshold, "65536", 1, 16u << 20, "bytes",
        "Files that are larger stand in the blob store."),
    NUM(blob_sweep_ms, "60000", 10, 3600000, "ms",
        "How often objects that nobody refers to are removed from the blob store, and large files "
        "of "
        "programs moved there."),
    NUM(archive_after_ms, "2000", 0, 86400000, "ms",
        "How long after its end a process's output is archived."),
    NUM(archive_lease_ms, "60000", 100, 3600000, "ms",
        "How long a gateway may take to archive a piece before another one does it all."),
    NUM(archive_max_bytes, "268435456", 0, 1ull << 40, "bytes",
        "How much of a process's output is archived; 0: nothing is."),
    NUM(archive_user_bytes, "10737418240", 0, 1ull << 50, "bytes",
        "How much a user's archived output may be; what ends when it is full is not archived."),
    STR(webhook_allow, "",
        "Networks (ADDRESS/BITS, with spaces between) that webhooks may reach besides public "
        "ones."),
    NUM(webhook_attempts, "12", 1, 100, "", "How often a webhook is tried before it has failed."),
    NUM(webhook_backoff_ms, "1000", 10, 3600000, "ms",
        "How long after the first failure a webhook is tried again; doubled each time, up to 1 h."),
    STR(log_level, "info", "err, warn, info or debug."),
    STR(log_format, "logfmt", "logfmt or json."),
};
const size_t gw_config_len = DBX_ARRAY_LEN(gw_config_fields);

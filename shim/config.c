/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/config.h"

#define STR(n, d, text)                                                                            \
    {                                                                                              \
#n, DBX_CONFIG_STRING, offsetof(struct shim_config, n), d, 0, 0, "", text                  \
    }
#define PATH(n, d, text)                                                                           \
    {                                                                                              \
#n, DBX_CONFIG_PATH, offsetof(struct shim_config, n), d, 0, 0, "", text                    \
    }
#define NUM(n, d, lo, hi, unit, text)                                                              \
    {                                                                                              \
#n, DBX_CONFIG_U64, offsetof(struct shim_config, n), d, lo, hi, unit, text                 \
    }

const struct dbx_config_field shim_config_fields[] = {
    STR(listen, "127.0.0.1:7200", "Where to serve gateways and probes: ADDRESS:PORT, or fd:N."),
    STR(scheduler, "", "The scheduler's link, ws://HOST:PORT/node."),
    STR(node_id, "", "The node's name; the host's when empty."),
    STR(url, "", "How gateways reach this node, ws://HOST:PORT/link; from listen when empty."),
    PATH(keys, "", "The keyring that signs and checks tokens."),
    PATH(ca_file, "", "Certificates to trust on links to other daemons (wss)."),
    PATH(tls_cert, "", "Certificate (PEM) to serve TLS with."),
    PATH(tls_key, "", "Its key (PEM)."),
    PATH(state_dir, "", "Where the sandboxes' folders stand; the shim's alone."),
    PATH(cache_dir, "", "Where the templates' images stand."),
    PATH(templates_dir, "", "The folder of template descriptions (NAME.json)."),
    PATH(layers_dir, "", "The node's store of dependency layers; none when empty."),
    NUM(layers_max_bytes, "21474836480", 1 << 20, 1ull << 50, "bytes",
        "Size of all layers; those not used for longest go."),
    NUM(layers_keep_s, "46800", 0, 31536000, "s",
        "A layer used so lately stays: longer than a workspace's sandbox may live."),
    NUM(layers_at_a_time, "8", 1, 64, "", "Layers that are made for one owner, or wait for it."),
    NUM(layers_hourly, "120", 1, 1000000, "", "Layers that are made for one owner in an hour."),
    NUM(layers_hourly_bytes, "8589934592", 1 << 20, 1ull << 50, "bytes",
        "Size of what is made for one owner in an hour; with it reached nothing more is begun."),
    STR(layers_url, "",
        "The registry cache by which nodes share layers, http[s]://HOST:PORT; none when empty."),
    PATH(layers_keys, "",
         "The keyring of that cache (its keys), to put layers there; nothing is put when empty."),
    PATH(runsc, "", "The runsc program."),
    PATH(init, "", "The folder that holds the program init."),
    PATH(shim_exec, "", "The program devbox-shim-exec; beside this one when empty."),
    PATH(keeper_socket, "", "The keeper's Unix socket."),
    PATH(registry_socket, "",
         "The registry cache's Unix socket, for workspaces; they have none when empty."),
    STR(output_log, "", "The output log: file:DIR or kafka:HOST:PORT."),
    STR(cgroup_base, "", "The node's cgroup below the mount; devbox-NODE when empty."),
    NUM(cpu_weight, "10", 1, 10000, "",
        "Of all sandboxes together against the daemons beside them, who have 100."),
    NUM(max_sandboxes, "64", 1, 1024, "", "Sandboxes at a time, in all states."),
    NUM(max_executions, "4096", 1, 1000000, "", "Executions known at a time, ended ones included."),
    NUM(memory_budget_mb, "0", 0, 1u << 30, "MB", "What sandboxes may be promised; 0: no budget."),
    NUM(max_starts, "0", 0, 256, "", "Sandboxes made in parallel; 0: as many as CPUs."),
    NUM(warm, "1024", 0, 1024, "",
        "Warm sandboxes a template; 1024: what the template says, more on demand."),
    NUM(max_warm, "0", 0, 1024, "",
        "All warm ones together, where demand asks for more; 0: 3/4 of max_sandboxes."),
    NUM(warm_memory_mb, "256", 16, 1048576, "MB", "Memory of a warm sandbox."),
    NUM(warm_disk_mb, "256", 1, 1048576, "MB", "Disk of a warm sandbox."),
    NUM(log_retain_bytes, "8589934592", 0, 1ull << 50, "bytes", "How much the log keeps; 0: all."),
    NUM(log_segment_bytes, "67108864", 65536, 1ull << 40, "bytes",
        "What the log drops at a time (on files)."),
    NUM(log_retain_ms, "86400000", 0, 1ull << 50, "ms", "How long the log keeps it; 0: for ever."),
    NUM(drain_ms, "2000", 0, 3600000, "ms", "How long executions may run on after SIGTERM."),
    STR(log_level, "info", "err, warn, info or debug."),
    STR(log_format, "logfmt", "logfmt or json."),
};
const size_t shim_config_len = DBX_ARRAY_LEN(shim_config_fields);

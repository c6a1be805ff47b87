/* SPDX-License-Identifier: Apache-2.0 */
/* How a request becomes files, arguments, environment and limits of a process. Pure. */
#pragma once

#include "bundles/bundles.h"
#include "shim/init/protocol.h"
#include "shim/request.h"

/* The plan of the request. Where an entry file is missing, the plan as if it were there: the
 * program itself then says what it misses. ret on success only. */
int shim_launch_plan(const struct bnd_template *tpl, const struct shim_request *rq,
                     struct bnd_plan *ret, struct dbx_err *err) DBX_MUST_USE;
/* The block of files for init: the request's and the plan's. out is initialised here. */
int shim_launch_files(const struct shim_request *rq, const struct bnd_plan *plan,
                      struct dbx_buf *out, struct dbx_err *err) DBX_MUST_USE;
/* The template's environment, what every program may count on, what those of a workspace are told
 * of the registry cache, then the request's: the last of a name counts. NULL-terminated; free with
 * shim_launch_env_free. */
char **shim_launch_env(const struct bnd_template *tpl, bool workspace, char *const *more);
char **shim_launch_env_free(char **env);

/* Whether what the template parks may become this: its very command, at most with more arguments,
 * and no variable that it would have had to see when it started. */
bool shim_launch_may_parked(const struct bnd_template *tpl, char *const *argv, char *const *more);
/* The environment that it is parked with. */
char **shim_launch_parked_env(const struct bnd_template *tpl);
/* The same for who forks what is parked. */
char **shim_launch_server_env(const struct bnd_template *tpl);

#define SHIM_LAUNCH_RLIMITS 6 /* cpu_ms 0: none */
void shim_launch_rlimits(const struct dbx_limits *l,
                         struct init_rlimit out[static SHIM_LAUNCH_RLIMITS]);

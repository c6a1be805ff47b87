/* SPDX-License-Identifier: Apache-2.0 */
/* Paths inside a workspace as clients write them: relative, '/' between components, UTF-8, at most
 * 1024 bytes, a component at most 255; no leading '/', no empty component, no "." or "..", no NUL,
 * no control character. */
#pragma once

#include "common/base/err.h"

/* field names the input in the error. */
int dbx_path_check(const char *path, size_t len, const char *field,
                   struct dbx_err *err) DBX_MUST_USE;

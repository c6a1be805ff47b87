/* SPDX-License-Identifier: Apache-2.0 */
/* Paths inside a workspace as clients write them: relative, '/' between components, UTF-8, at most
 * 1024 bytes, a component at most 255; no leading '/', no empty component, no "." or "..", no NUL,
 * no control character. */
#pragma once

#include "common/base/err.h"

/* field names the input in the error. */
int dbx_path_check(const char *path, size_t len, const char *field,
                   struct dbx_err *err) DBX_MUST_USE;

/* A name as tar and zip write it: "./" before it and "/" behind a folder are theirs. What is left
 * goes to out ("" for the root itself) and is checked as above; backslashes and drives ("C:x") are
 * refused too. Kind INVALID. */
int dbx_path_of_archive(const char *name, bool folder, char *out, size_t size,
                        struct dbx_err *err) DBX_MUST_USE;

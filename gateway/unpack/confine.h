/* SPDX-License-Identifier: Apache-2.0 */
/* Gives up everything but memory, time to compute, and the descriptors 0 and 1. */
#pragma once

#include "common/base/err.h"

int unpack_confine(struct dbx_err *err) DBX_MUST_USE;

/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions of unit tests: they print both values and the place, count, and let the test go on.
 * A test program ends with `return check_result();`. */
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int check_failures;
static int check_count;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        check_count++;                                                                             \
        if (!(cond)) {                                                                             \
            check_failures++;                                                                      \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                     \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        intmax_t check_a = (intmax_t)(a), check_b = (intmax_t)(b);                                 \
        check_count++;                                                                             \
        if (check_a != check_b) {                                                                  \
            check_failures++;                                                                      \
            fprintf(stderr, "%s:%d: %s is %" PRIdMAX ", %s is %" PRIdMAX "\n", __FILE__, __LINE__, \
                    #a, check_a, #b, check_b);                                                     \
        }                                                                                          \
    } while (0)

#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *check_a = (a), *check_b = (b);                                                 \
        check_count++;                                                                             \
        if (!check_a || !check_b || strcmp(check_a, check_b) != 0) {                               \
            check_failures++;                                                                      \
            fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #a,      \
                    check_a ? check_a : "(null)", check_b ? check_b : "(null)");                   \
        }                                                                                          \
    } while (0)

static inline int check_result(void)
{
    printf("%d checks, %d failed\n", check_count, check_failures);
    return check_failures ? 1 : 0;
}

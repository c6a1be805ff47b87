/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/metrics.h"
#include "tests/unit/check.h"

#include <errno.h>

static void test_print(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out;
    dbx_buf_init(&out, 64 << 10);
    CHECK_EQ(dbx_metrics_print(&out), 0);
    CHECK_EQ(out.len, 0);

    struct dbx_metric *a =
        dbx_counter("devbox_runs_total", "template=\"python\"", "Runs \\ all\nof them.");
    struct dbx_metric *g = dbx_gauge("devbox_open", NULL, "Open ones.");
    struct dbx_metric *b = dbx_counter("devbox_runs_total", "template=\"go\"", "Runs.");
    CHECK(dbx_counter("devbox_runs_total", "template=\"python\"", "Runs.") == a);
    CHECK(a != b);
    dbx_metric_add(a, 1);
    dbx_metric_add(a, 2);
    dbx_metric_add(b, 0.5);
    dbx_metric_set(g, 5);
    dbx_metric_add(g, -7);
    CHECK_EQ(dbx_metrics_print(&out), 0);
    CHECK_STR(dbx_buf_cstr(&out), "# HELP devbox_runs_total Runs \\\\ all\\nof them.\n"
                                  "# TYPE devbox_runs_total counter\n"
                                  "devbox_runs_total{template=\"python\"} 3\n"
                                  "devbox_runs_total{template=\"go\"} 0.5\n"
                                  "# HELP devbox_open Open ones.\n"
                                  "# TYPE devbox_open gauge\n"
                                  "devbox_open -2\n");
    struct dbx_buf small;
    dbx_buf_init(&small, 50);
    CHECK_EQ(dbx_metrics_print(&small), -E2BIG);
    dbx_buf_done(&small);
}

static void test_histogram(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out;
    dbx_buf_init(&out, 64 << 10);
    struct dbx_metric *h = dbx_histogram("devbox_start_seconds", "kind=\"warm\"", "Starts.");
    dbx_metric_observe(h, 0.0001);
    dbx_metric_observe(h, 0.25);
    dbx_metric_observe(h, 100);
    CHECK_EQ(dbx_metrics_print(&out), 0);
    const char *text = dbx_buf_cstr(&out);
    CHECK(strstr(text, "# TYPE devbox_start_seconds histogram\n"));
    CHECK(strstr(text, "devbox_start_seconds_bucket{kind=\"warm\",le=\"0.0001\"} 1\n"));
    CHECK(strstr(text, "devbox_start_seconds_bucket{kind=\"warm\",le=\"0.1\"} 1\n"));
    CHECK(strstr(text, "devbox_start_seconds_bucket{kind=\"warm\",le=\"0.25\"} 2\n"));
    CHECK(strstr(text, "devbox_start_seconds_bucket{kind=\"warm\",le=\"60\"} 2\n"));
    CHECK(strstr(text, "devbox_start_seconds_bucket{kind=\"warm\",le=\"+Inf\"} 3\n"
                       "devbox_start_seconds_sum{kind=\"warm\"} 100.2501\n"
                       "devbox_start_seconds_count{kind=\"warm\"} 3\n"));
    (void)dbx_histogram("devbox_plain_seconds", NULL, "Plain.");
    dbx_buf_clear(&out);
    CHECK_EQ(dbx_metrics_print(&out), 0);
    CHECK(strstr(dbx_buf_cstr(&out), "devbox_plain_seconds_bucket{le=\"60\"} 0\n"));
    CHECK(strstr(dbx_buf_cstr(&out), "devbox_plain_seconds_count 0\n"));
}

int main(void)
{
    test_print();
    test_histogram();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The registry is the process's own, like its standard output. Families keep the order in which
 * they were made. */
#include "common/base/metrics.h"
#include "common/base/list.h"
#include "common/base/map.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { COUNTER, GAUGE, HISTOGRAM };

static const char *const type_names[] = {"counter", "gauge", "histogram"};
static const double bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30,    60};

struct family {
    struct dbx_list node;
    struct dbx_list series;
    enum type type;
    char *name, *help;   /* owned */
    struct dbx_map *map; /* owned; labels -> dbx_metric */
};

struct dbx_metric {
    struct dbx_list node;
    enum type type;
    char *labels;   /* owned; "" without */
    double value;   /* of a histogram: the sum */
    uint64_t count; /* of a histogram */
    uint64_t buckets[DBX_ARRAY_LEN(bounds)];
};

static struct dbx_list families = {&families, &families};
static struct dbx_map *by_name;

static struct family *family_of(const char *name, enum type type, const char *help)
{
    if (!by_name)
        by_name = dbx_map_new();
    struct family *fam = DBX_MAP_GET_STR(by_name, name);
    if (fam) {
        dbx_assert(fam->type == type);
        return fam;
    }
    fam = DBX_NEW(struct family);
    fam->type = type;
    fam->name = dbx_strdup(name);
    fam->help = dbx_strdup(help);
    fam->map = dbx_map_new();
    dbx_list_init(&fam->series);
    dbx_list_push(&families, &fam->node);
    (void)dbx_map_put(by_name, name, strlen(name), fam);
    return fam;
}

static struct dbx_metric *metric_of(const char *name, const char *labels, enum type type,
                                    const char *help)
{
    struct family *fam = family_of(name, type, help);
    if (!labels)
        labels = "";
    struct dbx_metric *m = DBX_MAP_GET_STR(fam->map, labels);
    if (m)
        return m;
    m = DBX_NEW(struct dbx_metric);
    m->type = type;
    m->labels = dbx_strdup(labels);
    dbx_list_push(&fam->series, &m->node);
    (void)dbx_map_put(fam->map, labels, strlen(labels), m);
    return m;
}

struct dbx_metric *dbx_counter(const char *name, const char *labels, const char *help)
{
    return metric_of(name, labels, COUNTER, help);
}

struct dbx_metric *dbx_gauge(const char *name, const char *labels, const char *help)
{
    return metric_of(name, labels, GAUGE, help);
}

struct dbx_metric *dbx_histogram(const char *name, const char *labels, const char *help)
{
    return metric_of(name, labels, HISTOGRAM, help);
}

void dbx_metric_add(struct dbx_metric *m, double v)
{
    dbx_assert(m->type == GAUGE || (m->type == COUNTER && v >= 0));
    m->value += v;
}

void dbx_metric_set(struct dbx_metric *m, double v)
{
    dbx_assert(m->type == GAUGE);
    m->value = v;
}

void dbx_metric_observe(struct dbx_metric *m, double seconds)
{
    dbx_assert(m->type == HISTOGRAM);
    m->value += seconds;
    m->count++;
    for (size_t i = 0; i < DBX_ARRAY_LEN(bounds); i++)
        if (seconds <= bounds[i]) {
            m->buckets[i]++;
            return;
        }
}

/* The shortest that reads back the same. */
static int print_number(struct dbx_buf *out, double v)
{
    char text[40];
    if (isnan(v))
        return dbx_buf_str(out, "NaN");
    if (isinf(v))
        return dbx_buf_str(out, v > 0 ? "+Inf" : "-Inf");
    snprintf(text, sizeof(text), "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof(text), "%.17g", v);
    return dbx_buf_str(out, text);
}

/* name suffix{labels,extra} value */
static int print_sample(struct dbx_buf *out, const struct family *fam, const char *suffix,
                        const char *labels, const char *extra, double v)
{
    const char *comma = *labels && *extra ? "," : "";
    int r = *labels || *extra
                ? dbx_buf_printf(out, "%s%s{%s%s%s} ", fam->name, suffix, labels, comma, extra)
                : dbx_buf_printf(out, "%s%s ", fam->name, suffix);
    if (r == 0)
        r = print_number(out, v);
    return r < 0 ? r : dbx_buf_str(out, "\n");
}

static int print_histogram(struct dbx_buf *out, const struct family *fam,
                           const struct dbx_metric *m)
{
    char le[32];
    uint64_t sum = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < DBX_ARRAY_LEN(bounds); i++) {
        sum += m->buckets[i];
        snprintf(le, sizeof(le), "le=\"%g\"", bounds[i]);
        r = print_sample(out, fam, "_bucket", m->labels, le, (double)sum);
    }
    if (r == 0)
        r = print_sample(out, fam, "_bucket", m->labels, "le=\"+Inf\"", (double)m->count);
    if (r == 0)
        r = print_sample(out, fam, "_sum", m->labels, "", m->value);
    return r < 0 ? r : print_sample(out, fam, "_count", m->labels, "", (double)m->count);
}

static int print_help(struct dbx_buf *out, const struct family *fam)
{
    int r = dbx_buf_printf(out, "# HELP %s ", fam->name);
    for (const char *p = fam->help; r == 0 && *p; p++)
        r = *p == '\\'   ? dbx_buf_str(out, "\\\\")
            : *p == '\n' ? dbx_buf_str(out, "\\n")
                         : dbx_buf_append(out, p, 1);
    return r < 0 ? r : dbx_buf_printf(out, "\n# TYPE %s %s\n", fam->name, type_names[fam->type]);
}

int dbx_metrics_print(struct dbx_buf *out)
{
    struct dbx_list *f, *ftmp, *s, *stmp;
    dbx_list_each(f, ftmp, &families)
    {
        const struct family *fam = dbx_list_entry(f, struct family, node);
        int r = print_help(out, fam);
        dbx_list_each(s, stmp, &fam->series)
        {
            const struct dbx_metric *m = dbx_list_entry(s, struct dbx_metric, node);
            if (r == 0)
                r = m->type == HISTOGRAM ? print_histogram(out, fam, m)
                                         : print_sample(out, fam, "", m->labels, "", m->value);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

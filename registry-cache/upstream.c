/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/upstream.h"
#include "common/base/fs.h"
#include "common/base/list.h"
#include "common/base/str.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_FILE (4u << 20)

/* --- lines --- */

/* Calls fn with each line's first word and the rest; both NUL-terminated. */
typedef int line_fn(char *word, char *rest, void *user, struct dbx_err *err);

static int each_line(const char *text, line_fn *fn, void *user, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *copy = dbx_strdup(text);
    unsigned number = 0;
    int r = 0;

    for (char *line = copy, *next; line && r == 0; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        line += strspn(line, " \t\r");
        if (!*line || *line == '#')
            continue;
        size_t n = strcspn(line, " \t\r=");
        char *rest = line + n + strspn(line + n, " \t\r=");
        line[n] = '\0';
        for (size_t k = strlen(rest); k && strchr(" \t\r", rest[k - 1]); k--)
            rest[k - 1] = '\0';
        r = fn(line, rest, user, err);
        if (r < 0)
            return dbx_err_wrap(err, r, "line %u", number);
    }
    return r;
}

static int load(const char *path, struct dbx_buf *ret, struct dbx_err *err)
{
    int r = *path ? dbx_fs_read(path, MAX_FILE, ret, err) : -ENOENT;

    if (r == -ENOENT) {
        dbx_buf_init(ret, 1);
        return 0;
    }
    return r < 0 ? dbx_err_wrap(err, r, "%s", path) : 0;
}

/* --- upstreams --- */

static int eco_of(const char *word)
{
    for (int i = 0; i < RC_ECOS; i++)
        if (strcmp(word, rc_eco_names[i]) == 0)
            return i;
    return -1;
}

static void basic_auth(struct rc_upstream *up)
{
    char plain[512], packed[1024];
    size_t n = 0;

    for (const char *s = up->url.userinfo; *s; s++) { /* an '@' in it is escaped */
        uint8_t c = (uint8_t)*s;
        if (c == '%' && s[1] && s[2] && dbx_hex_decode(s + 1, 2, &c) == 0)
            s += 2;
        plain[n++] = (char)c;
    }
    (void)dbx_base64_encode(plain, n, packed, false);
    free(up->auth);
    up->auth = dbx_asprintf("Authorization: Basic %s", packed);
    up->url.userinfo[0] = '\0';
}

static int add_one(struct rc_upstreams *ups, int eco, const char *url, struct dbx_err *err)
{
    struct rc_upstream up = {0};

    if (dbx_starts_with(url, "sparse+"))
        url += strlen("sparse+");
    if (ups->n[eco] == RC_MAX_UPSTREAMS)
        return dbx_err_field(err, rc_eco_names[eco], "at most %d upstreams", RC_MAX_UPSTREAMS);
    if (rc_url_parse(url, &up.url) < 0 || strchr(up.url.path, '?') || strlen(up.url.path) > 1024)
        return dbx_err_field(err, rc_eco_names[eco], "an http or https URL is wanted");
    if (up.url.userinfo[0])
        basic_auth(&up);
    size_t len = strlen(up.url.path);
    while (len && up.url.path[len - 1] == '/')
        up.url.path[--len] = '\0';
    ups->of[eco][ups->n[eco]++] = up;
    return 0;
}

static int upstream_line(char *word, char *rest, void *user, struct dbx_err *err)
{
    struct rc_upstreams *ups = user;
    int eco = eco_of(word), r = 0;

    if (strcmp(word, "npm-token") == 0 && ups->n[RC_NPM]) {
        struct rc_upstream *up = &ups->of[RC_NPM][ups->n[RC_NPM] - 1];
        free(up->auth);
        up->auth = dbx_asprintf("Authorization: Bearer %s", rest);
        return 0;
    }
    if (strcmp(word, "trust") == 0 && ups->ntrusted < RC_MAX_TRUSTED) {
        ups->trusted[ups->ntrusted++] = dbx_strdup(rest);
        return 0;
    }
    if (eco < 0)
        return dbx_err_field(err, word, "is npm, pypi, go, crates, trust, or npm-token behind npm");
    for (char *p = rest; *p && r == 0;) {
        size_t n = strcspn(p, " \t,");
        char *next = p + n + strspn(p + n, " \t,");
        p[n] = '\0';
        r = add_one(ups, eco, p, err);
        p = next;
    }
    return r;
}

int rc_upstreams_parse(const char *text, struct rc_upstreams *ret, struct dbx_err *err)
{
    memset(ret, 0, sizeof(*ret));
    int r = each_line(text, upstream_line, ret, err);
    if (r < 0)
        rc_upstreams_done(ret);
    return r;
}

int rc_upstreams_load(const char *path, struct rc_upstreams *ret, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    int r = load(path, &buf, err);

    memset(ret, 0, sizeof(*ret));
    return r < 0 ? r : rc_upstreams_parse(dbx_buf_cstr(&buf), ret, err);
}

bool rc_upstreams_trust(const struct rc_upstreams *ups, const char *host)
{
    for (size_t i = 0; i < ups->ntrusted; i++)
        if (strcasecmp(ups->trusted[i], host) == 0)
            return true;
    return false;
}

void rc_upstreams_done(struct rc_upstreams *ups)
{
    for (size_t i = 0; i < ups->ntrusted; i++)
        free(ups->trusted[i]);
    for (int e = 0; e < RC_ECOS; e++)
        for (size_t i = 0; i < ups->n[e]; i++)
            free(ups->of[e][i].auth);
    memset(ups, 0, sizeof(*ups));
}

/* --- rules --- */

struct rule {
    struct dbx_list node;
    enum rc_verdict verdict; /* ALLOWED: an allow line */
    enum rc_eco eco;
    char *pattern;
};

struct rc_rules {
    struct dbx_list list;
    bool allows[RC_ECOS];
};

static int rule_line(char *word, char *rest, void *user, struct dbx_err *err)
{
    static const char *const words[] = {"allow", "deny", "private"};
    struct rc_rules *rules = user;
    char *colon = strchr(rest, ':');
    int verdict = -1;

    for (int i = 0; i < 3; i++)
        if (strcmp(word, words[i]) == 0)
            verdict = i;
    if (verdict < 0 || !colon)
        return dbx_err_field(err, word, "is allow, deny or private, then ECOSYSTEM:NAME");
    *colon = '\0';
    int eco = eco_of(rest);
    if (eco < 0)
        return dbx_err_field(err, rest, "is npm, pypi, go or crates");
    struct rule *r = DBX_NEW(struct rule);
    r->verdict = (enum rc_verdict)verdict;
    r->eco = (enum rc_eco)eco;
    r->pattern = dbx_strdup(colon + 1);
    dbx_list_push(&rules->list, &r->node);
    if (r->verdict == RC_ALLOWED)
        rules->allows[eco] = true;
    return 0;
}

int rc_rules_parse(const char *text, struct rc_rules **ret, struct dbx_err *err)
{
    struct rc_rules *rules = DBX_NEW(struct rc_rules);

    dbx_list_init(&rules->list);
    int r = each_line(text, rule_line, rules, err);
    if (r < 0)
        rc_rules_free(rules);
    else
        *ret = rules;
    return r;
}

int rc_rules_load(const char *path, struct rc_rules **ret, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    int r = load(path, &buf, err);

    return r < 0 ? r : rc_rules_parse(dbx_buf_cstr(&buf), ret, err);
}

struct rc_rules *rc_rules_free(struct rc_rules *rules)
{
    if (!rules)
        return NULL;
    while (!dbx_list_empty(&rules->list)) {
        struct rule *r = dbx_list_first(&rules->list, struct rule, node);
        dbx_list_remove(&r->node);
        free(r->pattern);
        free(r);
    }
    free(rules);
    return NULL;
}

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* '*' stands for anything; letters without regard to case, so that no spelling slips through. */
static bool matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;

    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            from = name;
        } else if (fold(*pattern) == fold(*name)) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++from;
        } else {
            return false;
        }
    }
    return pattern[strspn(pattern, "*")] == '\0';
}

enum rc_verdict rc_rules_judge(const struct rc_rules *rules, enum rc_eco eco, const char *name)
{
    bool found[3] = {false};
    struct dbx_list *it, *tmp;

    dbx_list_each(it, tmp, &rules->list)
    {
        const struct rule *r = dbx_list_entry(it, struct rule, node);
        if (r->eco == eco && !found[r->verdict])
            found[r->verdict] = matches(r->pattern, name);
    }
    if (found[RC_DENIED])
        return RC_DENIED;
    if (found[RC_PRIVATE])
        return RC_PRIVATE;
    return rules->allows[eco] && !found[RC_ALLOWED] ? RC_DENIED : RC_ALLOWED;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/freshness.h"
#include "registry-cache/server.h"
#include "registry-cache/upstream.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <errno.h>

static void test_upstreams(void)
{
    struct rc_upstreams ups;
    struct dbx_err err;

    CHECK_EQ(rc_upstreams_parse("# mine\nnpm https://u%40x:p@h.example/npm/\n\nnpm = https://b/\n"
                                "npm-token T0\n go https://g/ ,https://g2:81/x//\ncrates "
                                "sparse+https://c/i/\ntrust F.example\n",
                                &ups, &err),
             0);
    CHECK_EQ(ups.n[RC_NPM], 2);
    CHECK_STR(ups.of[RC_NPM][0].url.path, "/npm");
    CHECK_STR(ups.of[RC_NPM][0].url.userinfo, "");
    CHECK_STR(ups.of[RC_NPM][0].auth, "Authorization: Basic dUB4OnA="); /* u@x:p */
    CHECK_STR(ups.of[RC_NPM][1].auth, "Authorization: Bearer T0");
    CHECK_EQ(ups.n[RC_GO], 2);
    CHECK_EQ(ups.of[RC_GO][1].url.port, 81);
    CHECK_STR(ups.of[RC_GO][1].url.path, "/x");
    CHECK_STR(ups.of[RC_CRATES][0].url.path, "/i");
    CHECK(rc_upstreams_trust(&ups, "f.example") && !rc_upstreams_trust(&ups, "g"));
    rc_upstreams_done(&ups);
    CHECK_EQ(rc_upstreams_parse("npm ftp://x/\n", &ups, &err), -EINVAL);
    CHECK_EQ(rc_upstreams_parse("maven https://x/\n", &ups, &err), -EINVAL);
    CHECK_EQ(rc_upstreams_parse("npm-token X\n", &ups, &err), -EINVAL);
    CHECK_EQ(
        rc_upstreams_parse("go https://a/ https://b/ https://c/ https://d/ https://e/", &ups, &err),
        -EINVAL);
    CHECK_EQ(rc_upstreams_load("/nonexistent/file", &ups, &err), 0);
    CHECK_EQ(ups.n[RC_NPM], 0);
}

static void test_rules(void)
{
    struct rc_rules *r = NULL;
    struct dbx_err err;

    CHECK_EQ(rc_rules_parse("deny npm:evil*\nprivate npm:@acme/*\nallow pypi:six\nallow "
                            "pypi:num?*\ndeny pypi:six-x\n",
                            &r, &err),
             0);
    CHECK_EQ(rc_rules_judge(r, RC_NPM, "evil-thing"), RC_DENIED);
    CHECK_EQ(rc_rules_judge(r, RC_NPM, "EVIL"), RC_DENIED);
    CHECK_EQ(rc_rules_judge(r, RC_NPM, "@acme/x"), RC_PRIVATE);
    CHECK_EQ(rc_rules_judge(r, RC_NPM, "@Acme/x"), RC_PRIVATE);
    CHECK_EQ(rc_rules_judge(r, RC_NPM, "acme"), RC_ALLOWED);
    CHECK_EQ(rc_rules_judge(r, RC_PYPI, "six"), RC_ALLOWED);
    CHECK_EQ(rc_rules_judge(r, RC_PYPI, "sixx"), RC_DENIED);
    CHECK_EQ(rc_rules_judge(r, RC_GO, "anything"), RC_ALLOWED);
    rc_rules_free(r);
    CHECK_EQ(rc_rules_parse("forbid npm:x\n", &r, &err), -EINVAL);
    CHECK_EQ(rc_rules_parse("deny x\n", &r, &err), -EINVAL);
    CHECK_EQ(rc_rules_parse("deny maven:x\n", &r, &err), -EINVAL);
}

static void test_freshness(void)
{
    struct rc_config cfg = {.swr_s = 60, .sie_s = 1000};
    struct rc_ref ref = {.fetched_s = 1000};

    rc_freshness(&cfg, "public, max-age=300", &ref);
    CHECK_EQ(ref.max_age_s, 300);
    CHECK_EQ(rc_fresh_now(&ref, 1000), RC_FRESH);
    CHECK_EQ(rc_fresh_now(&ref, 900), RC_FRESH); /* the clock went back */
    CHECK_EQ(rc_fresh_now(&ref, 1299), RC_FRESH);
    CHECK_EQ(rc_fresh_now(&ref, 1300), RC_STALE_USABLE);
    CHECK_EQ(rc_fresh_now(&ref, 1360), RC_STALE);
    CHECK(rc_usable_on_error(&ref, 2299) && !rc_usable_on_error(&ref, 2300));
    rc_freshness(&cfg, "max-age=5, s-maxage=7, stale-while-revalidate=10", &ref);
    CHECK_EQ(ref.max_age_s, 7);
    CHECK_EQ(ref.swr_s, 10);
    rc_freshness(&cfg, "No-Cache, max-age=99", &ref);
    CHECK(ref.max_age_s == 0 && ref.swr_s == 0);
    CHECK_EQ(rc_fresh_now(&ref, 1000), RC_STALE);
    rc_freshness(&cfg, NULL, &ref);
    CHECK_EQ(ref.max_age_s, 300);
    rc_freshness(&cfg, "max-age=99999999999999999999, xmax-age=1", &ref);
    CHECK_EQ(ref.max_age_s, 300);
}

static void test_base(void)
{
    char base[64];

    CHECK(rc_base_of("127.0.0.1:80", base, sizeof(base)));
    CHECK_STR(base, "http://127.0.0.1:80");
    CHECK(rc_base_of("[::1]:80", base, sizeof(base)));
    CHECK(!rc_base_of("", base, sizeof(base)));
    CHECK(!rc_base_of(NULL, base, sizeof(base)));
    CHECK(!rc_base_of("a/b", base, sizeof(base)));
    CHECK(!rc_base_of("u@h", base, sizeof(base)));
    CHECK(!rc_base_of("a\"b", base, sizeof(base)));
    CHECK(!rc_base_of("h:0", base, sizeof(base)));
    CHECK(!rc_base_of("0123456789012345678901234567890123456789012345678901234567890123", base,
                      sizeof(base)));
}

int main(void)
{
    test_upstreams();
    test_rules();
    test_freshness();
    test_base();
    return check_result();
}

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

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return rc_address_public((struct sockaddr *)&v4);
    CHECK_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return rc_address_public((struct sockaddr *)&v6);
}

static void test_addresses(void)
{
    static const char *const closed[] = {"127.0.0.1",
                                         "0.0.0.0",
                                         "10.1.2.3",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.0.1",
                                         "169.254.169.254",
                                         "100.64.0.1",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "::1",
                                         "::",
                                         "fe80::1",
                                         "fc00::1",
                                         "ff02::1",
                                         "::ffff:127.0.0.1",
                                         "::ffff:10.0.0.1",
                                         "64:ff9b::7f00:1",
                                         "2002:7f00:1::",
                                         "2001:0:1::"};
    static const char *const open[] = {"8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1",
                                       "::ffff:8.8.8.8"};

    for (size_t i = 0; i < DBX_ARRAY_LEN(closed); i++)
        if (is_public(closed[i])) {
            fprintf(stderr, "%s\n", closed[i]);
            CHECK(!"public");
        }
    for (size_t i = 0; i < DBX_ARRAY_LEN(open); i++)
        CHECK(is_public(open[i]));
    CHECK(!rc_address_public(&(struct sockaddr){.sa_family = AF_UNIX}));
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
    test_addresses();
    test_freshness();
    test_base();
    return check_result();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/address.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return dbx_address_public((struct sockaddr *)&v4);
    CHECK_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return dbx_address_public((struct sockaddr *)&v6);
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
    CHECK(!dbx_address_public(&(struct sockaddr){.sa_family = AF_UNIX}));
}

static bool listed(const char *text, const char *networks)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return dbx_address_listed((struct sockaddr *)&v4, networks);
    CHECK_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return dbx_address_listed((struct sockaddr *)&v6, networks);
}

static void test_networks(void)
{
    CHECK(listed("127.0.0.1", "127.0.0.0/8"));
    CHECK(listed("10.1.2.3", "  fd00::/8 10.1.2.3 "));
    CHECK(!listed("10.1.2.4", "fd00::/8 10.1.2.3"));
    CHECK(listed("10.1.2.4", "0.0.0.0/0"));
    CHECK(!listed("::1", "0.0.0.0/0"));
    CHECK(listed("fd12::1", "fd00::/8"));
    CHECK(!listed("10.0.0.1", ""));
    CHECK_EQ(dbx_networks_check("127.0.0.0/8 ::1"), 0);
    CHECK_EQ(dbx_networks_check("127.0.0.0/33"), -EINVAL);
    CHECK_EQ(dbx_networks_check("localhost"), -EINVAL);
}

int main(void)
{
    test_addresses();
    test_networks();
    return check_result();
}

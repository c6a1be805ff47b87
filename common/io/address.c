/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "common/base/str.h"

static bool v4_public(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } closed[] = {{0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},
                  {0xa9fe0000, 16}, {0xac100000, 12}, {0xc0000000, 24}, {0xc0a80000, 16},
                  {0xc6120000, 15}, {0xe0000000, 3}};

    for (size_t i = 0; i < DBX_ARRAY_LEN(closed); i++)
        if (((a ^ closed[i].net) >> (32 - closed[i].bits)) == 0)
            return false;
    return true;
}

bool dbx_address_public(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET)
        return v4_public(ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr));
    if (addr->sa_family != AF_INET6)
        return false;
    const uint8_t *b = ((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr.s6_addr;
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    uint32_t tail = (uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 | b[15];
    if (memcmp(b, mapped, 12) == 0 || memcmp(b, nat64, 12) == 0)
        return v4_public(tail);
    return (b[0] & 0xe0) == 0x20 && !(b[0] == 0x20 && (b[1] == 0x02 || (b[1] == 0x01 && b[2] < 2)));
}

/* --- networks that an operator lists --- */

struct bits {
    uint8_t b[16];
    unsigned len; /* in bits: 32 or 128 */
};

static bool parse_ip(const char *text, struct bits *ret)
{
    ret->len = strchr(text, ':') ? 128 : 32;
    return inet_pton(ret->len == 32 ? AF_INET : AF_INET6, text, ret->b) == 1;
}

static bool within(const struct bits *net, uint64_t prefix, const uint8_t *addr)
{
    for (unsigned i = 0; i < prefix; i++)
        if ((net->b[i / 8] ^ addr[i / 8]) & (0x80 >> (i % 8)))
            return false;
    return true;
}

/* One word, "ADDRESS" or "ADDRESS/BITS"; -EINVAL. */
static int parse_net(const char *word, size_t len, struct bits *ret, uint64_t *ret_prefix)
{
    char text[64];
    if (len >= sizeof(text))
        return -EINVAL;
    memcpy(text, word, len);
    text[len] = '\0';
    char *slash = strchr(text, '/');
    if (slash)
        *slash = '\0';
    if (!parse_ip(text, ret))
        return -EINVAL;
    *ret_prefix = ret->len;
    if (slash && dbx_parse_u64(slash + 1, strlen(slash + 1), 0, ret->len, ret_prefix) < 0)
        return -EINVAL;
    return 0;
}

/* Calls for each word; ends early when it returns nonzero. */
static int each_net(const char *list, const struct sockaddr *addr)
{
    struct bits net;
    uint64_t prefix;
    for (;;) {
        list += strspn(list, " ");
        size_t len = strcspn(list, " ");
        if (len == 0)
            return 0;
        int r = parse_net(list, len, &net, &prefix);
        if (r < 0)
            return r;
        if (addr && addr->sa_family == AF_INET && net.len == 32 &&
            within(&net, prefix,
                   (const uint8_t *)&((const struct sockaddr_in *)(const void *)addr)->sin_addr))
            return 1;
        if (addr && addr->sa_family == AF_INET6 && net.len == 128 &&
            within(&net, prefix,
                   ((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr.s6_addr))
            return 1;
        list += len;
    }
}

bool dbx_address_listed(const struct sockaddr *addr, const char *networks)
{
    return each_net(networks, addr) == 1;
}

int dbx_networks_check(const char *networks)
{
    return each_net(networks, NULL);
}

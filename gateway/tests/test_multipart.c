/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/multipart.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/check.h"

#define HEAD "--b\r\nContent-Disposition: form-data; name=\"f\""

static void test_good(void)
{
    static const char body[] =
        HEAD "; filename=\"d/a\\\"b.txt\"\r\nContent-Type: text/plain\r\n\r\none\r\n--c\r\n"
             "\r\n--b\r\ncontent-disposition:form-data;name=x\r\n\r\n\r\n--b--\r\n";
    size_t offset = 0;
    struct gw_part p;
    struct dbx_err err = {0};
    CHECK_EQ(gw_multipart_next((const uint8_t *)body, sizeof(body) - 1, "b", &offset, &p, &err), 1);
    CHECK_STR(p.name, "f");
    CHECK_STR(p.filename, "d/a\"b.txt");
    CHECK(p.len == 10 && memcmp(p.data, "one\r\n--c\r\n", 10) == 0);
    CHECK_EQ(gw_multipart_next((const uint8_t *)body, sizeof(body) - 1, "b", &offset, &p, &err), 1);
    CHECK_STR(p.name, "x");
    CHECK_STR(p.filename, "");
    CHECK_EQ(p.len, 0);
    CHECK_EQ(gw_multipart_next((const uint8_t *)body, sizeof(body) - 1, "b", &offset, &p, &err), 0);
}

static void test_bad(void)
{
    static const char *const bodies[] = {
        "",
        "x",
        "--b",
        "--c\r\n",
        HEAD,
        HEAD "\r\n\r\nend is missing",
        HEAD "\r\n\r\n\r\n--b",
        "--b\r\n\r\nno name\r\n--b--",
        "--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--",
        "--b\r\nContent-Disposition: attachment; name=x\r\n\r\n\r\n--b--",
        HEAD "\r\nContent-Disposition: form-data; name=y\r\n\r\n\r\n--b--",
        HEAD "; filename=\"open\r\n\r\n\r\n--b--",
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(bodies); i++) {
        size_t offset = 0;
        struct gw_part p;
        struct dbx_err err = {0};
        int r;
        do
            r = gw_multipart_next((const uint8_t *)bodies[i], strlen(bodies[i]), "b", &offset, &p,
                                  &err);
        while (r == 1);
        CHECK_EQ(r, -EINVAL);
    }
}

int main(void)
{
    char boundary[GW_MULTIPART_BOUNDARY];
    struct dbx_err err = {0};
    CHECK_EQ(
        gw_multipart_boundary("Multipart/form-data; charset=x; boundary=\"a b\"", boundary, &err),
        0);
    CHECK_STR(boundary, "a b");
    CHECK_EQ(gw_multipart_boundary("multipart/form-data", boundary, &err), -EINVAL);
    CHECK_EQ(gw_multipart_boundary("multipart/form-data; boundary=", boundary, &err), -EINVAL);
    CHECK_EQ(gw_multipart_boundary("text/plain; boundary=x", boundary, &err), -EINVAL);
    CHECK_EQ(gw_multipart_boundary(NULL, boundary, &err), -EINVAL);
    test_good();
    test_bad();
    return check_result();
}

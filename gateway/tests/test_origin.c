/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/session.h"
#include "tests/unit/check.h"

int main(void)
{
    const char *host = "devbox.example:7000", *more = "https://a.example  https://b.example:8443";
    CHECK(gw_origin_ok(NULL, host, ""));
    CHECK(gw_origin_ok("http://devbox.example:7000", host, ""));
    CHECK(gw_origin_ok("https://DevBox.example:7000", host, ""));
    CHECK(gw_origin_ok("https://a.example", host, more));
    CHECK(gw_origin_ok("https://b.example:8443", host, more));
    static const char *const foreign[] = {
        "",
        "null",
        "https://evil.example",
        "http://devbox.example",
        "http://devbox.example:70000",
        "http://devbox.example:7000.evil.example",
        "http://xdevbox.example:7000",
        "http://sub.devbox.example:7000",
        "file://devbox.example:7000",
        "http://",
        "https://a.example.evil",
        "https://a.exampl",
        "https://a.example  https://b.example:8443",
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(foreign); i++)
        CHECK(!gw_origin_ok(foreign[i], host, more));
    CHECK(!gw_origin_ok("http://x", NULL, NULL));
    return check_result();
}

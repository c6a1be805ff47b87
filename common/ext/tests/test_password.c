/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "common/ext/password.h"
#include "tests/unit/check.h"

int main(void)
{
    char a[DBX_PASSWORD_TEXT], b[DBX_PASSWORD_TEXT];
    CHECK_EQ(dbx_password_hash("correct horse", 13, a), 0);
    CHECK_EQ(dbx_password_hash("correct horse", 13, b), 0);
    CHECK(dbx_starts_with(a, "$argon2id$v=19$m=65536,t=2,p=1$"));
    CHECK(!dbx_streq(a, b)); /* salted */
    CHECK(dbx_password_matches(a, "correct horse", 13));
    CHECK(!dbx_password_matches(a, "correct horsf", 13));
    CHECK(!dbx_password_matches(a, "", 0));
    CHECK(!dbx_password_matches("", "", 0));
    CHECK(!dbx_password_matches("$argon2id$v=19$m=4294967295,t=2,p=1$AAAA$AAAA", "x", 1));
    CHECK(!dbx_password_matches("plain", "plain", 5));
    return check_result();
}

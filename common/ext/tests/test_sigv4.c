/* SPDX-License-Identifier: Apache-2.0 */
/* The cases that AWS publishes: of its test suite, and of S3's documentation. */
#include "common/ext/sigv4.h"
#include "tests/unit/check.h"

#include <errno.h>

#include "common/base/str.h"

#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

static struct dbx_sigv4_req suite(void)
{
    return (struct dbx_sigv4_req){
        .access_key = "AKIDEXAMPLE",
        .secret_key = SECRET,
        .region = "us-east-1",
        .service = "service",
        .date = "20150830T123600Z",
        .method = "GET",
        .path = "/",
        .header = {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
        .nheaders = 2,
        .payload_sha256 = DBX_SIGV4_EMPTY};
}

static void check_signature(const struct dbx_sigv4_req *rq, const char *signature)
{
    struct dbx_buf out;
    dbx_buf_init(&out, 4096);
    CHECK_EQ(dbx_sigv4_authorization(rq, &out), 0);
    const char *found = strstr(dbx_buf_cstr(&out), "Signature=");
    CHECK_STR(found ? found + 10 : NULL, signature);
    dbx_buf_done(&out);
}

static void test_suite(void)
{
    struct dbx_sigv4_req rq = suite();
    struct dbx_buf out;
    dbx_buf_init(&out, 4096);
    CHECK_EQ(dbx_sigv4_authorization(&rq, &out), 0);
    CHECK_STR(dbx_buf_cstr(&out),
              "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
              "SignedHeaders=host;x-amz-date, "
              "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    dbx_buf_done(&out);
    rq.method = "POST"; /* post-vanilla */
    check_signature(&rq, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    rq.method = "GET"; /* get-vanilla-query-order-key-case */
    rq.query[0] = (struct dbx_sigv4_pair){"Param2", "value2"};
    rq.query[1] = (struct dbx_sigv4_pair){"Param1", "value1"};
    rq.nquery = 2;
    check_signature(&rq, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

static struct dbx_sigv4_req s3(void)
{
    struct dbx_sigv4_req rq = suite();
    rq.access_key = "AKIAIOSFODNN7EXAMPLE";
    rq.secret_key = S3_SECRET;
    rq.service = "s3";
    rq.date = "20130524T000000Z";
    rq.header[0].value = "examplebucket.s3.amazonaws.com";
    rq.header[1].value = rq.date;
    rq.header[2] = (struct dbx_sigv4_pair){"x-amz-content-sha256", DBX_SIGV4_EMPTY};
    rq.nheaders = 3;
    return rq;
}

static void test_s3(void)
{
    struct dbx_sigv4_req rq = s3();
    rq.path = "/test.txt";
    rq.header[3] = (struct dbx_sigv4_pair){"range", "bytes=0-9"};
    rq.nheaders = 4;
    check_signature(&rq, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");

    rq = s3();
    rq.path = "/"; /* GET Bucket Lifecycle: a parameter without a value */
    rq.query[0] = (struct dbx_sigv4_pair){"lifecycle", ""};
    rq.nquery = 1;
    check_signature(&rq, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    rq.query[0] = (struct dbx_sigv4_pair){"prefix", "J"}; /* List Objects */
    rq.query[1] = (struct dbx_sigv4_pair){"max-keys", "2"};
    rq.nquery = 2;
    check_signature(&rq, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");

    rq = s3(); /* PUT Object: a '$' in the key */
    rq.method = "PUT";
    rq.path = "/test$file.text";
    rq.payload_sha256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    rq.header[2].value = rq.payload_sha256;
    rq.header[3] = (struct dbx_sigv4_pair){"date", "Fri, 24 May 2013 00:00:00 GMT"};
    rq.header[4] = (struct dbx_sigv4_pair){"x-amz-storage-class", "REDUCED_REDUNDANCY"};
    rq.nheaders = 5;
    check_signature(&rq, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_canonical(void)
{
    struct dbx_sigv4_req rq = suite();
    struct dbx_buf out;
    dbx_buf_init(&out, 4096);
    rq.path = "/a b/\xc3\xa9/~x";
    rq.header[1] = (struct dbx_sigv4_pair){"a-header", "  one   two  "};
    CHECK_EQ(dbx_sigv4_canonical(&rq, &out), 0);
    CHECK_STR(dbx_buf_cstr(&out), "GET\n/a%20b/%C3%A9/~x\n\na-header:one two\nhost:example."
                                  "amazonaws.com\n\na-header;host\n" DBX_SIGV4_EMPTY);
    dbx_buf_done(&out);
    dbx_buf_init(&out, 20);
    CHECK_EQ(dbx_sigv4_canonical(&rq, &out), -E2BIG);
    rq.nheaders = DBX_SIGV4_MAX_PAIRS + 1;
    CHECK_EQ(dbx_sigv4_canonical(&rq, &out), -E2BIG);
    dbx_buf_done(&out);
}

static void test_date(void)
{
    char date[DBX_SIGV4_DATE];
    dbx_sigv4_date(1440938160000000, date);
    CHECK_STR(date, "20150830T123600Z");
}

int main(void)
{
    test_suite();
    test_s3();
    test_canonical();
    test_date();
    return check_result();
}

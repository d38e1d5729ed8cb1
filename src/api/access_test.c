/* Who is let in, as a pure function. */
#include "api/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const proxies[] = {"192.0.2.1", "2001:db8::1"};

static struct access_request request_of(const char *host) {
    return (struct access_request){.host = str_of(host), .client_address = "127.0.0.1"};
}

static enum access_verdict verdict_of_host(const char *host) {
    struct access access = {0};
    struct access_request request = request_of(host);
    return access_check(&access, &request);
}

static void test_hosts(void **state) {
    (void)state;
    static const char *const own[] = {
        "127.0.0.1", "127.0.0.1:8080", "127.255.0.9", "localhost",       "LOCALHOST:1",
        "[::1]",     "[::1]:9",        "localhost.",  "LocalHost.:8080", "127.0.0.1."};
    static const char *const foreign[] = {":80",         "example.org",   "127.0.0.1.example.org",
                                          "127.0.0.1x",  "localhost..",   ".",
                                          "127.0.0",     "127.0.0.1.1.1", "0.0.0.0",
                                          "10.0.0.1",    "xlocalhost",    "localhost.x",
                                          ".localhostx", "a.localhost", /* an app's own */
                                          "[::1",        "[::11]",        "::1"};
    for (size_t i = 0; i < ARRAY_LENGTH(own); i++) {
        assert_int_equal(verdict_of_host(own[i]), ACCESS_GRANTED);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(foreign); i++) {
        assert_int_equal(verdict_of_host(foreign[i]), ACCESS_FOREIGN_HOST);
    }
    assert_int_equal(verdict_of_host(NULL), ACCESS_HOST_MISSING);
    assert_int_equal(verdict_of_host(""), ACCESS_HOST_MISSING);
}

static void test_domain(void **state) {
    (void)state;
    struct access access = {.domain = "cloud.example"};
    struct access_request request = request_of("Cloud.Example:443");
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
    request.host = STR("cloud.example.org");
    assert_int_equal(access_check(&access, &request), ACCESS_FOREIGN_HOST);
    request.host = STR("x.cloud.example"); /* an app's own origin has no control door */
    assert_int_equal(access_check(&access, &request), ACCESS_FOREIGN_HOST);
}

static void expect_label(const struct access *access, const char *host, const char *expected) {
    struct str label = {0};
    bool found = access_host_app(access, str_of(host), &label);
    assert_int_equal(found, expected != NULL);
    if (expected) {
        assert_true(str_equal_text(label, expected));
    }
}

static void test_hosts_of_apps(void **state) {
    (void)state;
    struct access access = {.domain = "cloud.example"};
    expect_label(&access, "a-b.localhost:8080", "a-b");
    expect_label(&access, "a_b.LocalHost", "a_b");
    expect_label(&access, "a.b.localhost", "a.b"); /* a name that no app has */
    expect_label(&access, "x.Cloud.Example:443", "x");
    expect_label(&access, "a.localhost.", "a");
    expect_label(&access, "a.localhost.:8080", "a");
    expect_label(&access, "x.cloud.example.", "x");
    expect_label(&access, "a.localhost..", NULL);
    expect_label(&access, "localhost.", NULL);
    expect_label(&access, "cloud.example.", NULL);
    expect_label(&access, "localhost", NULL);
    expect_label(&access, ".localhost", NULL);
    expect_label(&access, "cloud.example", NULL);
    expect_label(&access, "xcloud.example", NULL);
    expect_label(&access, "", NULL);
    expect_label(&access, "x.example.org", NULL);
    access.domain = NULL;
    expect_label(&access, "x.cloud.example", NULL);

    struct access_request request = request_of("a.localhost");
    assert_int_equal(access_check(&access, &request), ACCESS_FOREIGN_HOST);
    request.is_of_app = true;
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
    request.origin = STR("http://a.localhost");
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
    request.origin = STR("http://b.localhost");
    assert_int_equal(access_check(&access, &request), ACCESS_FOREIGN_ORIGIN);
}

static enum access_verdict verdict_of_origin(const char *host, const char *origin) {
    struct access access = {0};
    struct access_request request = request_of(host);
    request.origin = str_of(origin);
    return access_check(&access, &request);
}

static void test_origins(void **state) {
    (void)state;
    assert_int_equal(verdict_of_origin("localhost:80", "http://localhost:80"), ACCESS_GRANTED);
    assert_int_equal(verdict_of_origin("localhost:80", "HTTP://localhost:80"),
                     ACCESS_FOREIGN_ORIGIN);
    static const char *const foreign[] = {"http://localhost",
                                          "http://localhost:81",
                                          "http://localhost:80/",
                                          "http://localhost:80.x",
                                          "http:localhost:80",
                                          "null",
                                          "http://x@localhost:80",
                                          "ftp://localhost:80",
                                          "localhost:80",
                                          "http://127.0.0.1:80",
                                          "http://",
                                          "http:",
                                          "https://evil.localhost:80",
                                          "http://localhost:80\t"};
    for (size_t i = 0; i < ARRAY_LENGTH(foreign); i++) {
        assert_int_equal(verdict_of_origin("localhost:80", foreign[i]), ACCESS_FOREIGN_ORIGIN);
    }
}

static void test_fetch_site(void **state) {
    (void)state;
    struct access access = {0};
    static const struct {
        const char *site;
        enum access_verdict verdict;
    } rows[] = {{"same-origin", ACCESS_GRANTED},      {"none", ACCESS_GRANTED},
                {"same-site", ACCESS_FOREIGN_ORIGIN}, {"cross-site", ACCESS_FOREIGN_ORIGIN},
                {"", ACCESS_FOREIGN_ORIGIN},          {"Same-Origin", ACCESS_FOREIGN_ORIGIN}};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct access_request request = request_of("localhost");
        request.fetch_site = str_of(rows[i].site);
        assert_int_equal(access_check(&access, &request), rows[i].verdict);
    }
}

static const char secret[] = "0123456789abcdef0123456789abcdef";

static void test_proxies(void **state) {
    (void)state;
    struct access access = {.trusted_proxies = proxies, .trusted_proxy_count = 2};
    assert_int_equal(access_add_token(&access, STR("0123456789abcdef0123456789abcdef")), ERR_OK);
    struct access_request request = request_of("localhost");
    request.has_forwarding_header = true;
    assert_int_equal(access_check(&access, &request), ACCESS_PROXIED);
    request.client_address = "192.0.2.10"; /* begins like a trusted one */
    assert_int_equal(access_check(&access, &request), ACCESS_PROXIED);
    request.client_address = "2001:db8::1";
    assert_int_equal(access_check(&access, &request), ACCESS_TOKEN_MISSING);
    request.authorization = STR("Bearer 0123456789abcdef0123456789abcdeX");
    assert_int_equal(access_check(&access, &request), ACCESS_TOKEN_WRONG);
    request.authorization = STR("Bearer 0123456789abcdef0123456789abcdef");
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
    request.has_forwarding_header = false; /* a proxy that does not say that it is one */
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
    request.authorization = (struct str){0};
    assert_int_equal(access_check(&access, &request), ACCESS_TOKEN_MISSING);
}

static void test_tokens(void **state) {
    (void)state;
    struct access access = {.token_required = true};
    struct access_request request = request_of("any.example");
    assert_int_equal(access_check(&access, &request), ACCESS_TOKEN_MISSING);
    request.authorization = STR("Bearer 0123456789abcdef0123456789abcdef");
    assert_int_equal(access_check(&access, &request), ACCESS_TOKEN_WRONG); /* there is none */
    assert_int_equal(access_add_token(&access, STR("too short")), ERR_INVAL);
    assert_int_equal(access.token_count, 0);
    assert_int_equal(access_add_token(&access, str_of(secret)), ERR_OK);
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
    static const char *const bad[] = {"Bearer", "Bearer ", "Basic 0123456789abcdef0123456789abcdef",
                                      "0123456789abcdef0123456789abcdef", ""};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        request.authorization = str_of(bad[i]);
        assert_int_equal(access_check(&access, &request), ACCESS_TOKEN_MISSING);
    }
    /* All places are looked at, and no more fit. */
    char token[32];
    for (size_t i = access.token_count; i < ACCESS_TOKENS_MAX; i++) {
        snprintf(token, sizeof token, "token number %06zu", i);
        assert_int_equal(access_add_token(&access, str_of(token)), ERR_OK);
    }
    assert_int_not_equal(access_add_token(&access, STR("one token too many")), ERR_OK);
    char authorization[64];
    snprintf(authorization, sizeof authorization, "bearer %s", token);
    request.authorization = str_of(authorization);
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
}

/* HTTP/1.0 has no Host, and a token may come without. */
static void test_origin_without_host(void **state) {
    (void)state;
    struct access access = {.token_required = true};
    assert_int_equal(access_add_token(&access, str_of(secret)), ERR_OK);
    struct access_request request = {
        .client_address = "127.0.0.1",
        .authorization = STR("Bearer 0123456789abcdef0123456789abcdef"),
        .origin = STR("http://"),
    };
    assert_int_equal(access_check(&access, &request), ACCESS_FOREIGN_ORIGIN);
    request.origin = (struct str){0};
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);
}

static void test_files(void **state) {
    (void)state;
    char directory[] = "/tmp/access_test_XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct access access = {.token_required = true};
    cleanup_buf struct buf token = {0};
    cleanup_buf struct buf other = {0};
    cleanup_buf struct buf message = {0};
    assert_int_equal(access_load(&access, directory, &message), ERR_OK); /* no file is no error */
    assert_int_equal(access.token_count, 0);
    assert_int_equal(access_new_token(directory, "a", &token, &message), ERR_OK);
    assert_int_equal(access_new_token(directory, "", &other, &message), ERR_OK);
    assert_int_equal(token.length, 48);
    assert_string_not_equal(buf_text(&token), buf_text(&other));
    assert_int_equal(access_load(&access, directory, &message), ERR_OK);
    assert_int_equal(access.token_count, 2);
    cleanup_buf struct buf authorization = {0};
    assert_int_equal(buf_printf(&authorization, "Bearer %s", buf_text(&other)), ERR_OK);
    struct access_request request = request_of("x");
    request.authorization = buf_str(&authorization);
    assert_int_equal(access_check(&access, &request), ACCESS_GRANTED);

    cleanup_buf struct buf path = {0};
    assert_int_equal(buf_printf(&path, "%s/tokens", directory), ERR_OK);
    struct stat status;
    assert_int_equal(stat(buf_text(&path), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    FILE *file = fopen(buf_text(&path), "a");
    assert_non_null(file);
    fputs("0123 not a hash\n", file);
    fclose(file);
    struct access damaged = {0};
    assert_int_equal(access_load(&damaged, directory, &message), ERR_INVAL);
    unlink(buf_text(&path));
    rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),         cmocka_unit_test(test_domain),
        cmocka_unit_test(test_hosts_of_apps), cmocka_unit_test(test_origins),
        cmocka_unit_test(test_fetch_site),    cmocka_unit_test(test_proxies),
        cmocka_unit_test(test_tokens),        cmocka_unit_test(test_origin_without_host),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Rules of --allow-private, and net=. */
#include "net/policy.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct net_policy *policy_of(const char *const *rules, size_t count) {
    struct net_policy *policy;
    assert_int_equal(net_policy_new(rules, count, &policy, NULL), ERR_OK);
    return policy;
}

static enum err check(const struct net_policy *policy, const char *name, uint16_t port,
                      const char *address_text) {
    struct net_host host;
    struct net_address address;
    assert_int_equal(net_host_parse(str_of(name), &host, NULL), ERR_OK);
    assert_int_equal(net_address_parse(str_of(address_text), &address), ERR_OK);
    cleanup_buf struct buf message = {0};
    enum err err = net_policy_check(policy, &host, port, &address, &message);
    assert_true(!err == (message.length == 0));
    return err;
}

static void rules_open_what_they_name(void **state) {
    (void)state;
    static const char *const rules[] = {"10.1.0.0/16",
                                        "192.168.7.7:5432",
                                        "db.internal:5432",
                                        "cache.internal",
                                        "[fd00::]/16:443",
                                        "fe80::1",
                                        "::1"};
    struct net_policy *policy = policy_of(rules, ARRAY_LENGTH(rules));
    assert_int_equal(check(policy, "example.org", 80, "8.8.8.8"), ERR_OK);
    assert_int_equal(check(policy, "a", 1, "10.1.255.255"), ERR_OK);
    assert_int_equal(check(policy, "a", 1, "::ffff:10.1.2.3"), ERR_OK);
    assert_int_equal(check(policy, "a", 1, "10.2.0.0"), ERR_PERM);
    assert_int_equal(check(policy, "a", 1, "64:ff9b::10.1.2.3"), ERR_PERM);
    assert_int_equal(check(policy, "a", 5432, "192.168.7.7"), ERR_OK);
    assert_int_equal(check(policy, "a", 5433, "192.168.7.7"), ERR_PERM);
    assert_int_equal(check(policy, "a", 5432, "192.168.7.8"), ERR_PERM);
    assert_int_equal(check(policy, "db.internal", 5432, "172.16.0.1"), ERR_OK);
    assert_int_equal(check(policy, "DB.internal", 5432, "127.0.0.1"), ERR_OK);
    assert_int_equal(check(policy, "db.internal", 22, "172.16.0.1"), ERR_PERM);
    assert_int_equal(check(policy, "xdb.internal", 5432, "172.16.0.1"), ERR_PERM);
    assert_int_equal(check(policy, "cache.internal", 22, "172.16.0.1"), ERR_OK);
    assert_int_equal(check(policy, "a", 443, "fd00:0:1::1"), ERR_OK);
    assert_int_equal(check(policy, "a", 80, "fd00::1"), ERR_PERM);
    assert_int_equal(check(policy, "a", 443, "fd01::1"), ERR_PERM);
    assert_int_equal(check(policy, "a", 80, "fe80::1"), ERR_OK);
    assert_int_equal(check(policy, "a", 80, "fe80::2"), ERR_PERM);
    assert_int_equal(check(policy, "a", 80, "::1"), ERR_OK);
    assert_int_equal(check(policy, "a", 80, "127.0.0.1"), ERR_PERM);
    net_policy_free(policy);
}

static void own_door_needs_its_port(void **state) {
    (void)state;
    static const char *const wide[] = {"127.0.0.0/8", "me.internal"};
    struct net_policy *policy = policy_of(wide, ARRAY_LENGTH(wide));
    net_policy_set_own_port(policy, 8080);
    assert_int_equal(check(policy, "a", 80, "127.0.0.1"), ERR_OK);
    assert_int_equal(check(policy, "a", 8080, "127.0.0.1"), ERR_PERM);
    assert_int_equal(check(policy, "me.internal", 8080, "10.0.0.1"), ERR_PERM);
    net_policy_free(policy);
    static const char *const exact[] = {"127.0.0.1:8080"};
    policy = policy_of(exact, ARRAY_LENGTH(exact));
    net_policy_set_own_port(policy, 8080);
    assert_int_equal(check(policy, "a", 8080, "127.0.0.1"), ERR_OK);
    assert_int_equal(check(policy, "a", 8080, "127.0.0.2"), ERR_PERM);
    net_policy_free(policy);
}

static void wrong_rules_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",           "10.0.0.0/33", "10.0.0.0/",  "10.0.0/8",     "a/8",         "10.0.0.0/8:0",
        "10.0.0.0/x", "*.a",         "fd00::/129", "10.0.0.0/8/8", "a b",         "http://a",
        "[fd00::1",   "10.0.0.0/-1", "010.0.0.1",  "a:b",          "10.0.0.0/8:", "2130706433/32"};
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        struct net_policy *policy;
        cleanup_buf struct buf message = {0};
        if (net_policy_new(&wrong[i], 1, &policy, &message) != ERR_INVAL) {
            fail_msg("'%s' is accepted", wrong[i]);
        }
        assert_true(message.length > 0);
    }
}

static void networks_are_named_by_their_first_address(void **state) {
    (void)state;
    static const struct {
        const char *rule, *network;
    } wrong[] = {
        {"10.0.0.1/8", "10.0.0.0/8"},        {"192.168.7.7/31:80", "192.168.7.6/31"},
        {"10.0.0.1/0", "0.0.0.0/0"},         {"fd00:1::/16", "fd00::/16"},
        {"[fd00::1]/127:443", "fd00::/127"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        struct net_policy *policy;
        cleanup_buf struct buf message = {0};
        assert_int_equal(net_policy_new(&wrong[i].rule, 1, &policy, &message), ERR_INVAL);
        if (!strstr(buf_text(&message), wrong[i].network)) {
            fail_msg("%s: %s", wrong[i].rule, buf_text(&message));
        }
    }
    static const char *const right[] = {"10.0.0.1/32", "0.0.0.0/0", "128.0.0.0/1", "::/0",
                                        "fd00::1/128"};
    net_policy_free(policy_of(right, ARRAY_LENGTH(right)));
}

static bool allows(const char *lines, const char *name, uint16_t port) {
    struct net_host host;
    assert_int_equal(net_host_parse(str_of(name), &host, NULL), ERR_OK);
    return net_hosts_allow(str_of(lines), &host, port);
}

static void net_narrows(void **state) {
    (void)state;
    assert_true(allows("", "a", 1));
    assert_true(allows("public", "a", 1));
    assert_false(allows("none", "a", 1));
    assert_false(allows("none", "none", 80));
    assert_true(allows("public\n", "a", 1));
    assert_false(allows("none\n", "none", 80));
    const char *list = "example.org\n*.example.net:443\n192.0.2.1:80\n[2001:db8::1]\n";
    assert_true(allows(list, "Example.org", 1));
    assert_false(allows(list, "www.example.org", 1));
    assert_true(allows(list, "a.example.net", 443));
    assert_true(allows(list, "a.b.example.net", 443));
    assert_false(allows(list, "a.example.net", 80));
    assert_false(allows(list, "example.net", 443));
    assert_false(allows(list, "aexample.net", 443));
    assert_true(allows(list, "192.0.2.1", 80));
    assert_true(allows(list, "[::ffff:192.0.2.1]", 80));
    assert_false(allows(list, "192.0.2.1", 81));
    assert_true(allows(list, "[2001:db8:0::1]", 9));
    assert_false(allows(list, "[2001:db8::2]", 9));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_open_what_they_name),
        cmocka_unit_test(own_door_needs_its_port),
        cmocka_unit_test(wrong_rules_are_refused),
        cmocka_unit_test(networks_are_named_by_their_first_address),
        cmocka_unit_test(net_narrows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Hosts in all spellings: every one that means an address which is not public must be refused,
 * either as text or by its kind. */
#include "net/policy.h"

#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* As a host in a URL. Each is no host at all, or an address that is not public, or a name: then
 * even the host's resolver must not take it for an address. */
static const char *const forbidden[] = {
    /* loopback */
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "127.255.255.254",
    "127.255.255.255",
    "127.0.0.0",
    "127.1",
    "127.0.1",
    "127",
    "127.0.0.1.",
    "127.0.0.1..",
    ".127.0.0.1",
    "127..0.1",
    "127.0.0.",
    "2130706433",
    "2130706433.",
    "02130706433",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0177.1",
    "00177.0.0.1",
    "000000177.0.0.1",
    "127.0.0.01",
    "127.0.0.001",
    "127.00.0.1",
    "0x7f000001",
    "0x7F000001",
    "0X7F000001",
    "0x07f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f.0x1",
    "0x7f.0x0.0x0.0x1",
    "0x7f.0.0x1",
    "127.0x0.0.1",
    "127.0.0x1",
    "127.0.0.0x1",
    "0x7f.0.0.01",
    "017700000001.",
    "6425673729",
    "4294967296",
    "4294967295",
    "0xffffffff",
    "0xffffffffffff",
    "127.0.0.1%00",
    "127.0.0.1%20",
    "127.0.0.1%2f",
    "127.0.0.1%23",
    "127.0.0.1%0a",
    "127.0.0.1 ",
    " 127.0.0.1",
    "127.0.0.1\t",
    "127.0.0.1\n",
    "127.0.0.1\r\n",
    "127.0.0.1/",
    "127.0.0.1#",
    "127.0.0.1?",
    "127.0.0.1\\",
    "127.0.0.1;",
    "127.0.0.1,",
    "+127.0.0.1",
    "-127.0.0.1",
    "127.-1.0.1",
    "127.0.0.-1",
    "127.0.0.256",
    "127.256.0.1",
    "%31%32%37.0.0.1",
    "%6c%6f%63alhost",
    "127%2e0%2e0%2e1",
    "127.0.0%2E1",
    "\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", /* fullwidth digits */
    "127\xe3\x80\x82"
    "0\xe3\x80\x82"
    "0\xe3\x80\x82"
    "1", /* ideographic full stops */
    "127\xef\xbc\x8e"
    "0.0.1",                                      /* fullwidth full stop */
    "\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1", /* circled digits */
    "\xe2\x93\x9b\xe2\x93\x9e"
    "calhost", /* circled letters */
    "127.0.0.\xd9\xa1",
    "loc\xc3\xa0lhost",
    "localhost\xe3\x80\x82",
    "\xff\xfe",
    "127.0.0.\xc2\xb9",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::0001]",
    "[0::1]",
    "[::0:1]",
    "[0:0::1]",
    "[::1%lo]",
    "[::1%25lo]",
    "[::1%1]",
    "[::1%0]",
    "::1",
    "[::1",
    "::1]",
    "[[::1]]",
    "[::1].",
    "[::1]x",
    "[:1]",
    "[1]",
    "[127.0.0.1]",
    "[0x7f.1]",
    "[localhost]",
    "[]",
    "[::]",
    "[::%eth0]",
    "0:0:0:0:0:0:0:1",
    /* loopback inside of others */
    "[::ffff:127.0.0.1]",
    "[::FFFF:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:7f00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[0:0:0:0:0:ffff:7f00:1]",
    "[::ffff:127.1]",
    "[::ffff:0x7f.0.0.1]",
    "[::ffff:0177.0.0.1]",
    "[::ffff:127.0.0.01]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::ffff:0:7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[2002:7f00:1:ffff::1]",
    "[2001:0:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]", /* Teredo: the client is 127.0.0.1 */
    "[2001::80ff:fffe]",
    "[2606:4700::5efe:127.0.0.1]",
    "[2606:4700::200:5efe:7f00:1]",
    /* unspecified */
    "0",
    "0.0.0.0",
    "0.0.0.1",
    "0.1.2.3",
    "0.255.255.255",
    "00",
    "0x0",
    "0x",
    "0.0",
    "00.00.00.00",
    "[::ffff:0.0.0.0]",
    "[::ffff:0:0]",
    "[::0.0.0.0]",
    "[64:ff9b::]",
    "[2002::]",
    "[2002::1]",
    /* private */
    "10.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "10.1",
    "012.0.0.1",
    "0x0a000001",
    "167772161",
    "172.16.0.0",
    "172.16.0.1",
    "172.31.255.255",
    "2886729729",
    "192.168.0.0",
    "192.168.0.1",
    "192.168.255.255",
    "192.168.1",
    "0xc0a80001",
    "3232235521",
    "0300.0250.0.1",
    "[::ffff:10.0.0.1]",
    "[::ffff:a00:1]",
    "[::ffff:172.16.0.1]",
    "[::ffff:192.168.0.1]",
    "[::ffff:c0a8:1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b::192.168.0.1]",
    "[2002:a00:1::]",
    "[2002:c0a8:1::1]",
    "[2002:ac10:1::]",
    "[fc00::]",
    "[fc00::1]",
    "[fd00::1]",
    "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]",
    "[fec0::1]",
    "[feff::1]",
    "[64:ff9b:1::1]",
    "[2001:0:a00:1::]",
    "[2001::f5ff:fffe]",
    /* link-local, metadata */
    "169.254.0.0",
    "169.254.0.1",
    "169.254.255.255",
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.43518",
    "169.16689662",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "0251.254.169.254",
    "0xa9.254.43518",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[::a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%eth0]",
    "[fe80::1%25eth0]",
    "[fe80::a9fe:a9fe]",
    "[febf:ffff::1]",
    "[2001:0:a9fe:a9fe::]",
    "[2606:4700::5efe:169.254.169.254]",
    /* carriers' */
    "100.64.0.0",
    "100.64.0.1",
    "100.127.255.255",
    "1681915905",
    "[::ffff:100.64.0.1]",
    "[64:ff9b::100.64.0.1]",
    "[2002:6440:1::]",
    /* multicast, broadcast, reserved, examples, benchmarks */
    "224.0.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "239.255.255.255",
    "240.0.0.1",
    "254.1.2.3",
    "255.255.255.255",
    "255.255.255.254",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.2.1",
    "192.0.2.255",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "203.0.113.255",
    "[ff02::1]",
    "[ff00::]",
    "[ff0e::1]",
    "[ffff::1]",
    "[100::1]",
    "[200::1]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:db8::1]",
    "[2001:db8:ffff::1]",
    "[3fff::1]",
    "[3fff:fff::1]",
    "[4000::1]",
    "[5f00::1]",
    "[8000::1]",
    "[1::1]",
    "[1fff::1]",
    "[::2]",
    "[::8.8.8.8]",
    "[::ffff:0:8.8.8.8]",
    "[::ffff:224.0.0.1]",
    "[::ffff:255.255.255.255]",
    "[::ffff:198.18.0.1]",
    "[64:ff9b::224.0.0.1]",
    "[2002:e000:1::]",
    "[2002:c000:201::]",
    /* things that are no hosts */
    "",
    ".",
    "..",
    "-",
    "a..b",
    "a.b.",
    "-a.b",
    "a b",
    "a@b",
    "user@127.0.0.1",
    "a:b@127.0.0.1",
    "127.0.0.1@example.org",
    "example.org@127.0.0.1",
    "example.org%40127.0.0.1",
    "a\\b",
    "example.org\\@127.0.0.1",
    "example.org#@127.0.0.1",
    "example.org?@127.0.0.1",
    "a,b",
    "a;b",
    "a*b",
    "*.example.org",
    "*",
    "a'b",
    "a\"b",
    "<a>",
    "{a}",
    "a|b",
    "a^b",
    "a`b",
    "a=b",
    "a&b",
    "a$b",
    "a!b",
    "a~b",
    "a+b",
    "(a)",
    "\x01",
    "a\x7f",
    "1.2.3.4.5",
    "1.2.3",
    "1.2",
    "1",
    "example.1",
    "example.0x1",
    "example.0x",
    "example.00",
    "8.8.8.8.",
    "08.8.8.8",
    "8.8.8.08",
    "8.8.2056",
    "134744072",
    "0x08080808",
};

static const char *const names[] = {
    "localhost",
    "LOCALHOST",
    "localhost.localdomain",
    "a",
    "example.org",
    "EXAMPLE.org",
    "xn--bcher-kva.example",
    "a_b.example",
    "1a.example",
    "0x7f.example",
    "127.0.0.1.nip.io",
    "127.example",
    "ip6-localhost",
    "metadata.google.internal",
    "0xg",
    "1e1",
    "127.0.0.1e0",
    "a-",
    "a-.b",
};

static const char *const public[] = {
    "8.8.8.8",
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.0",
    "203.0.112.0",
    "223.255.255.255",
    "[2606:4700:4700::1111]",
    "[2001:4860:4860::8888]",
    "[2a00::1]",
    "[2001:200::1]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::8.8.8.8]",
    "[2002:808:808::1]",
    "[3ffe::1]",
    "[2003::1]",
};

static void refuses_all_spellings(void **state) {
    (void)state;
    assert_true(ARRAY_LENGTH(forbidden) >= 200);
    struct net_policy *policy;
    assert_int_equal(net_policy_new(NULL, 0, &policy, NULL), ERR_OK);
    for (size_t i = 0; i < ARRAY_LENGTH(forbidden); i++) {
        cleanup_buf struct buf message = {0};
        struct net_host host;
        enum err err = net_host_parse(str_of(forbidden[i]), &host, &message);
        if (err) {
            assert_int_equal(err, ERR_INVAL);
            assert_true(message.length > 0);
            continue;
        }
        if (!host.is_address) {
            fail_msg("'%s' is taken for a name", forbidden[i]);
        }
        if (net_address_kind(&host.address) == NET_PUBLIC ||
            net_policy_check(policy, &host, 80, &host.address, &message) != ERR_PERM) {
            fail_msg("'%s' is taken for public", forbidden[i]);
        }
    }
    net_policy_free(policy);
}

/* What passes as a name is an address to nobody else: a resolver that needs no network knows it. */
static void names_are_no_addresses(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        struct net_host host;
        if (net_host_parse(str_of(names[i]), &host, NULL) || host.is_address) {
            fail_msg("'%s' is not taken for a name", names[i]);
        }
        struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found = NULL;
        if (getaddrinfo(host.name, NULL, &hints, &found) == 0) {
            freeaddrinfo(found);
            fail_msg("'%s' is an address to the resolver", names[i]);
        }
    }
}

static void public_addresses_pass(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(public); i++) {
        struct net_host host;
        if (net_host_parse(str_of(public[i]), &host, NULL) || !host.is_address ||
            net_address_kind(&host.address) != NET_PUBLIC) {
            fail_msg("'%s' is refused", public[i]);
        }
    }
}

/* Every IPv4 network that is not public, seen through every way of putting it into IPv6. */
static void embedded_addresses_are_of_their_kind(void **state) {
    (void)state;
    static const char *const forms[] = {
        "::ffff:%u.%u.%u.%u",   "::%u.%u.%u.%u",          "64:ff9b::%u.%u.%u.%u",
        "::ffff:0:%u.%u.%u.%u", "2606::5efe:%u.%u.%u.%u", "2606::200:5efe:%u.%u.%u.%u",
    };
    static const uint8_t bad[][4] = {{0, 1, 2, 3},     {10, 1, 2, 3},       {100, 64, 1, 1},
                                     {127, 9, 9, 9},   {169, 254, 1, 1},    {172, 20, 1, 1},
                                     {192, 0, 0, 5},   {192, 0, 2, 5},      {192, 168, 1, 1},
                                     {198, 18, 1, 1},  {198, 51, 100, 1},   {203, 0, 113, 1},
                                     {224, 0, 0, 251}, {255, 255, 255, 255}};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        for (size_t j = 0; j < ARRAY_LENGTH(forms); j++) {
            char text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(text, sizeof text, forms[j], bad[i][0], bad[i][1], bad[i][2], bad[i][3]);
#pragma GCC diagnostic pop
            struct net_address address;
            assert_int_equal(net_address_parse(str_of(text), &address), ERR_OK);
            if (net_address_kind(&address) == NET_PUBLIC) {
                fail_msg("%s is taken for public", text);
            }
        }
    }
}

static void hosts_have_one_form(void **state) {
    (void)state;
    struct net_host host;
    uint16_t port;
    assert_int_equal(net_host_port_parse(STR("Example.ORG:8080"), &host, &port, NULL), ERR_OK);
    assert_string_equal(host.name, "example.org");
    assert_int_equal(port, 8080);
    assert_int_equal(net_host_port_parse(STR("[0:0::1]:443"), &host, &port, NULL), ERR_OK);
    assert_string_equal(host.name, "::1");
    assert_int_equal(port, 443);
    cleanup_buf struct buf text = {0};
    assert_int_equal(net_host_append(&host, &text), ERR_OK);
    assert_string_equal(buf_text(&text), "[::1]");
    assert_int_equal(net_host_port_parse(STR("[::ffff:8.8.8.8]"), &host, &port, NULL), ERR_OK);
    assert_string_equal(host.name, "8.8.8.8");
    assert_int_equal(port, 0);
    static const char *const bad_ports[] = {
        "a:",    "a:0",   "a:65536", "a:-1", "a:+1",   "a: 1",    "a:1 ",
        "a:0x1", "a:1:2", "a::1",    ":80",  "[::1]:", "[::1]80", "a:99999999999999999999"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad_ports); i++) {
        assert_int_equal(net_host_port_parse(str_of(bad_ports[i]), &host, &port, NULL), ERR_INVAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_all_spellings),
        cmocka_unit_test(names_are_no_addresses),
        cmocka_unit_test(public_addresses_pass),
        cmocka_unit_test(embedded_addresses_are_of_their_kind),
        cmocka_unit_test(hosts_have_one_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

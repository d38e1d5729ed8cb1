#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static const struct range {
    const char *network;
    uint8_t bits;
    uint8_t kind;
} v4_ranges[] =
    {
        /* The first that fits counts. */
        {"169.254.169.254", 32, NET_METADATA},
        {"168.63.129.16", 32,
         NET_METADATA}, /* a public number, but every machine there has its own */
        {"100.100.100.200", 32, NET_METADATA}, /* inside of the carriers' */
        {"0.0.0.0", 8, NET_THIS},
        {"10.0.0.0", 8, NET_PRIVATE},
        {"100.64.0.0", 10, NET_SHARED},
        {"127.0.0.0", 8, NET_LOOPBACK},
        {"169.254.0.0", 16, NET_LINK_LOCAL},
        {"172.16.0.0", 12, NET_PRIVATE},
        {"192.0.0.0", 24, NET_RESERVED},
        {"192.0.2.0", 24, NET_DOCUMENTATION},
        {"192.88.99.0", 24, NET_RESERVED},
        {"192.168.0.0", 16, NET_PRIVATE},
        {"198.18.0.0", 15, NET_RESERVED},
        {"198.51.100.0", 24, NET_DOCUMENTATION},
        {"203.0.113.0", 24, NET_DOCUMENTATION},
        {"224.0.0.0", 4, NET_MULTICAST},
        {"240.0.0.0", 4, NET_RESERVED},
},
  v6_ranges[] = {
      {"::", 128, NET_THIS},
      {"::1", 128, NET_LOOPBACK},
      {"fd00:ec2::254", 128, NET_METADATA},
      {"fc00::", 7, NET_PRIVATE},
      {"fe80::", 10, NET_LINK_LOCAL},
      {"fec0::", 10, NET_PRIVATE},
      {"ff00::", 8, NET_MULTICAST},
      {"64:ff9b:1::", 48, NET_PRIVATE}, /* a network's own NAT64 */
      {"2001:db8::", 32, NET_DOCUMENTATION},
      {"3fff::", 20, NET_DOCUMENTATION},
      {"2001::", 23, NET_RESERVED},
};

const char *net_kind_text(enum net_kind kind) {
    static const char *const texts[] = {
        [NET_PUBLIC] = "public",     [NET_THIS] = "unspecified",    [NET_LOOPBACK] = "loopback",
        [NET_PRIVATE] = "private",   [NET_SHARED] = "carrier's",    [NET_LINK_LOCAL] = "link-local",
        [NET_METADATA] = "metadata", [NET_MULTICAST] = "multicast", [NET_DOCUMENTATION] = "example",
        [NET_RESERVED] = "reserved",
    };
    return texts[kind];
}

/* ---- addresses ---- */

static struct net_address v4_of(const uint8_t *bytes) {
    struct net_address address = {0};
    memcpy(address.bytes, bytes, 4);
    return address;
}

static struct net_address v6_of(const uint8_t *bytes) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(bytes, mapped, sizeof mapped) == 0) {
        return v4_of(bytes + 12);
    }
    struct net_address address = {.is_v6 = true};
    memcpy(address.bytes, bytes, 16);
    return address;
}

enum err net_address_parse(struct str text, struct net_address *ret_address) {
    char terminated[NET_ADDRESS_TEXT_SIZE];
    if (text.length == 0 || text.length >= sizeof terminated || memchr(text.data, 0, text.length)) {
        return ERR_INVAL;
    }
    memcpy(terminated, text.data, text.length);
    terminated[text.length] = 0;
    uint8_t bytes[16];
    if (inet_pton(AF_INET, terminated, bytes) == 1) {
        /* glibc refuses leading zeros here; others do not, and read them as octal elsewhere. */
        char again[INET_ADDRSTRLEN];
        if (!inet_ntop(AF_INET, bytes, again, sizeof again) || strcmp(again, terminated) != 0) {
            return ERR_INVAL;
        }
        *ret_address = v4_of(bytes);
        return ERR_OK;
    }
    if (inet_pton(AF_INET6, terminated, bytes) == 1) {
        *ret_address = v6_of(bytes);
        return ERR_OK;
    }
    return ERR_INVAL;
}

enum err net_address_of(const struct sockaddr *socket_address, struct net_address *ret_address) {
    if (socket_address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, socket_address, sizeof v4);
        *ret_address = v4_of((const uint8_t *)&v4.sin_addr);
        return ERR_OK;
    }
    if (socket_address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, socket_address, sizeof v6);
        *ret_address = v6_of((const uint8_t *)&v6.sin6_addr);
        return ERR_OK;
    }
    return ERR_AFNOSUPPORT;
}

socklen_t net_address_to(const struct net_address *address, uint16_t port,
                         struct sockaddr_storage *ret_socket_address) {
    memset(ret_socket_address, 0, sizeof *ret_socket_address);
    if (address->is_v6) {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&v6.sin6_addr, address->bytes, 16);
        memcpy(ret_socket_address, &v6, sizeof v6);
        return sizeof v6;
    }
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    memcpy(&v4.sin_addr, address->bytes, 4);
    memcpy(ret_socket_address, &v4, sizeof v4);
    return sizeof v4;
}

void net_address_text(const struct net_address *address, char text[NET_ADDRESS_TEXT_SIZE]) {
    if (!inet_ntop(address->is_v6 ? AF_INET6 : AF_INET, address->bytes, text,
                   NET_ADDRESS_TEXT_SIZE)) {
        text[0] = 0;
    }
}

bool net_address_equal(const struct net_address *a, const struct net_address *b) {
    return a->is_v6 == b->is_v6 && memcmp(a->bytes, b->bytes, a->is_v6 ? 16 : 4) == 0;
}

static bool is_in(const uint8_t *bytes, const uint8_t *network, unsigned bits) {
    if (memcmp(bytes, network, bits / 8) != 0) {
        return false;
    }
    unsigned rest = bits % 8;
    return rest == 0 || ((bytes[bits / 8] ^ network[bits / 8]) >> (8 - rest)) == 0;
}

bool net_address_is_in(const struct net_address *address, const struct net_address *network,
                       unsigned bits) {
    return address->is_v6 == network->is_v6 && is_in(address->bytes, network->bytes, bits);
}

/* ---- what kind one is ---- */

static bool find_range(const struct range *ranges, size_t count, int family, const uint8_t *bytes,
                       enum net_kind *ret_kind) {
    for (size_t i = 0; i < count; i++) {
        uint8_t network[16];
        if (inet_pton(family, ranges[i].network, network) == 1 &&
            is_in(bytes, network, ranges[i].bits)) {
            *ret_kind = ranges[i].kind;
            return true;
        }
    }
    return false;
}

static enum net_kind v4_kind(const uint8_t *bytes) {
    enum net_kind kind = NET_PUBLIC;
    (void)find_range(v4_ranges, ARRAY_LENGTH(v4_ranges), AF_INET, bytes, &kind);
    return kind;
}

static bool has_prefix(const uint8_t *bytes, const char *network, unsigned bits) {
    uint8_t prefix[16];
    return inet_pton(AF_INET6, network, prefix) == 1 && is_in(bytes, prefix, bits);
}

static enum net_kind worse(enum net_kind a, enum net_kind b) {
    return a != NET_PUBLIC ? a : b;
}

static enum net_kind v6_kind(const uint8_t *bytes) {
    enum net_kind kind = NET_PUBLIC;
    if (has_prefix(bytes, "2001::", 32)) { /* Teredo: a server's, and the client's inverted */
        uint8_t client[4];
        for (size_t i = 0; i < sizeof client; i++) {
            client[i] = bytes[12 + i] ^ 0xff;
        }
        return worse(v4_kind(bytes + 4), v4_kind(client));
    }
    if (has_prefix(bytes, "2002::", 16)) { /* 6to4 */
        return v4_kind(bytes + 2);
    }
    if (has_prefix(bytes, "64:ff9b::", 96)) { /* NAT64 */
        return v4_kind(bytes + 12);
    }
    if (find_range(v6_ranges, ARRAY_LENGTH(v6_ranges), AF_INET6, bytes, &kind)) {
        return kind;
    }
    if (has_prefix(bytes, "::", 96) || has_prefix(bytes, "::ffff:0:0:0", 96)) {
        /* compatible and translated: whatever is in it, they are not routed */
        return worse(v4_kind(bytes + 12), NET_RESERVED);
    }
    if ((bytes[8] & 0xfd) == 0 && bytes[9] == 0 && bytes[10] == 0x5e && bytes[11] == 0xfe) {
        kind = v4_kind(bytes + 12); /* ISATAP */
    }
    return worse(kind, (bytes[0] & 0xe0) == 0x20 ? NET_PUBLIC : NET_RESERVED);
}

enum net_kind net_address_kind(const struct net_address *address) {
    return address->is_v6 ? v6_kind(address->bytes) : v4_kind(address->bytes);
}

/* ---- hosts ---- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_name_character(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* Whether a last label makes others take the whole name for an address. */
static bool is_number(struct str label) {
    if (label.length >= 2 && label.data[0] == '0' && (label.data[1] | 0x20) == 'x') {
        label.data += 2;
        label.length -= 2;
        for (size_t i = 0; i < label.length; i++) {
            if (str_hexadecimal(label.data[i]) < 0) {
                return false;
            }
        }
        return true;
    }
    for (size_t i = 0; i < label.length; i++) {
        if (!is_digit(label.data[i])) {
            return false;
        }
    }
    return label.length > 0;
}

static enum err fail(struct buf *message, const char *why) {
    return buf_fail(message, ERR_INVAL, "the host %s", why);
}

static enum err take_address(const struct net_address *address, struct net_host *ret_host) {
    struct net_host host = {.is_address = true, .address = *address};
    char text[NET_ADDRESS_TEXT_SIZE];
    net_address_text(address, text);
    memcpy(host.name, text, strlen(text));
    *ret_host = host;
    return ERR_OK;
}

static enum err check_name(struct str text, struct buf *message) {
    if (text.length == 0 || text.length > NET_NAME_MAX) {
        return fail(message, text.length ? "has more than 253 characters" : "is missing");
    }
    struct str rest = text, label = {0};
    do {
        label = str_cut(&rest, '.');
        if (label.length == 0 || label.length > 63) {
            return fail(message, "has an empty or too long part (no dot at the end, please)");
        }
        for (size_t i = 0; i < label.length; i++) {
            if (!is_name_character(label.data[i]) || (i == 0 && label.data[i] == '-')) {
                return fail(message, "has a character that can't be in one; a name is letters, "
                                     "digits, '-', '_' and dots (others in their xn-- form), "
                                     "an IPv6 address stands in brackets");
            }
        }
    } while (rest.data);
    return is_number(label)
               ? fail(message, "is a number, but not an address of four decimal numbers")
               : ERR_OK;
}

enum err net_host_parse(struct str text, struct net_host *ret_host, struct buf *message) {
    struct net_address address;
    if (text.length > 2 && text.data[0] == '[' && text.data[text.length - 1] == ']') {
        struct str inner = {text.data + 1, text.length - 2};
        if (!memchr(inner.data, ':', inner.length) || net_address_parse(inner, &address)) {
            return fail(message, "in brackets is no IPv6 address");
        }
        return take_address(&address, ret_host);
    }
    if (!memchr(text.data ? text.data : "", ':', text.length) &&
        net_address_parse(text, &address) == ERR_OK) {
        return take_address(&address, ret_host);
    }
    enum err err = check_name(text, message);
    if (err) {
        return err;
    }
    struct net_host host = {0};
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        host.name[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    *ret_host = host;
    return ERR_OK;
}

enum err net_host_port_parse(struct str text, struct net_host *ret_host, uint16_t *ret_port,
                             struct buf *message) {
    struct str host = text;
    const char *bracket = text.length ? memrchr(text.data, ']', text.length) : NULL;
    const char *from = bracket ? bracket : text.data;
    size_t length = text.length - (size_t)(from - text.data);
    const char *colon = length ? memchr(from, ':', length) : NULL;
    uint64_t port = 0;
    if (colon) {
        struct str digits = {colon + 1, text.length - (size_t)(colon + 1 - text.data)};
        if (digits.length == 0 || digits.length > 5 || str_to_u64(digits, &port) || port == 0 ||
            port > UINT16_MAX) {
            return buf_fail(message, ERR_INVAL, "the port is not a number from 1 to 65535");
        }
        host.length = (size_t)(colon - text.data);
    }
    enum err err = net_host_parse(host, ret_host, message);
    if (!err) {
        *ret_port = (uint16_t)port;
    }
    return err;
}

enum err net_host_append(const struct net_host *host, struct buf *text) {
    bool is_v6 = host->is_address && host->address.is_v6;
    return buf_printf(text, is_v6 ? "[%s]" : "%s", host->name);
}

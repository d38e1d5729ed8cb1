#include "net/policy.h"

struct rule {
    bool is_network;
    struct net_host host; /* a name */
    struct net_address network;
    unsigned bits;
    uint16_t port; /* 0 = any */
};

struct net_policy {
    uint16_t own_port;
    size_t count;
    struct rule rules[];
};

/* Takes "/BITS" out of "ADDRESS/BITS[:PORT]" and "[ADDRESS/BITS]": the rest is a host and a port.
 */
static enum err take_bits(struct str text, struct buf *rest, uint64_t *ret_bits) {
    const char *slash = memchr(text.data, '/', text.length);
    if (!slash) {
        *ret_bits = UINT64_MAX;
        return buf_append_str(rest, text);
    }
    size_t begin = (size_t)(slash - text.data);
    size_t end = begin + 1;
    while (end < text.length && text.data[end] >= '0' && text.data[end] <= '9') {
        end++;
    }
    struct str digits = {slash + 1, end - begin - 1};
    if (digits.length == 0 || digits.length > 3 || str_to_u64(digits, ret_bits)) {
        return ERR_INVAL;
    }
    enum err err = buf_append(rest, text.data, begin);
    return err ? err : buf_append(rest, text.data + end, text.length - end);
}

/* A network whose address goes on behind its bits is a mistake: one host may have been meant. */
static enum err check_network(struct str text, const struct rule *rule, struct buf *message) {
    struct net_address first = rule->network;
    unsigned bits = first.is_v6 ? 128 : 32;
    for (unsigned bit = rule->bits; rule->is_network && bit < bits; bit++) {
        first.bytes[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    }
    if (!rule->is_network || net_address_equal(&first, &rule->network)) {
        return ERR_OK;
    }
    char network[NET_ADDRESS_TEXT_SIZE], address[NET_ADDRESS_TEXT_SIZE];
    net_address_text(&first, network);
    net_address_text(&rule->network, address);
    return buf_fail(message, ERR_INVAL,
                    "--allow-private '" STR_FORMAT "' names an address within a network: the "
                    "network is %s/%u, the address alone %s",
                    STR_ARGS(text), network, rule->bits, address);
}

static enum err parse_rule(struct str text, struct rule *ret_rule, struct buf *message) {
    struct rule rule = {0};
    cleanup_buf struct buf rest = {0};
    uint64_t bits;
    enum err err = take_bits(text, &rest, &bits);
    if (!err && net_address_parse(buf_str(&rest), &rule.network) == ERR_OK) {
        rule.is_network = true; /* also an IPv6 address without brackets */
    } else if (!err) {
        err = net_host_port_parse(buf_str(&rest), &rule.host, &rule.port, NULL);
        rule.is_network = !err && rule.host.is_address;
        if (rule.is_network) {
            rule.network = rule.host.address;
        }
    }
    unsigned bits_max = rule.network.is_v6 ? 128 : 32;
    bool has_bits = bits != UINT64_MAX;
    if (err || (has_bits && (!rule.is_network || bits > bits_max))) {
        return err == ERR_NOMEM
                   ? err
                   : buf_fail(message, ERR_INVAL,
                              "--allow-private '" STR_FORMAT
                              "' is not HOST[:PORT], ADDRESS[/BITS][:PORT] or "
                              "[ADDRESS6]/BITS[:PORT], such as db.internal:5432 or 10.0.0.0/8",
                              STR_ARGS(text));
    }
    rule.bits = has_bits ? (unsigned)bits : bits_max;
    err = check_network(text, &rule, message);
    if (!err) {
        *ret_rule = rule;
    }
    return err;
}

enum err net_policy_new(const char *const *rules, size_t count, struct net_policy **ret_policy,
                        struct buf *message) {
    struct net_policy *policy = calloc(1, sizeof *policy + count * sizeof policy->rules[0]);
    if (!policy) {
        return ERR_NOMEM;
    }
    enum err err = ERR_OK;
    for (; !err && policy->count < count; policy->count++) {
        err = parse_rule(str_of(rules[policy->count]), &policy->rules[policy->count], message);
    }
    if (err) {
        net_policy_free(policy);
        return err;
    }
    *ret_policy = policy;
    return ERR_OK;
}

void net_policy_free(struct net_policy *policy) {
    free(policy);
}

void net_policy_set_own_port(struct net_policy *policy, uint16_t port) {
    policy->own_port = port;
}

static bool rule_fits(const struct rule *rule, const struct net_host *host, uint16_t port,
                      const struct net_address *address) {
    if (rule->port && rule->port != port) {
        return false;
    }
    return rule->is_network ? net_address_is_in(address, &rule->network, rule->bits)
                            : !host->is_address && strcmp(rule->host.name, host->name) == 0;
}

enum err net_policy_check(const struct net_policy *policy, const struct net_host *host,
                          uint16_t port, const struct net_address *address, struct buf *message) {
    enum net_kind kind = net_address_kind(address);
    if (kind == NET_PUBLIC) {
        return ERR_OK;
    }
    bool is_own_door = false;
    for (size_t i = 0; i < policy->count; i++) {
        if (rule_fits(&policy->rules[i], host, port, address)) {
            if (policy->rules[i].port || port != policy->own_port) {
                return ERR_OK;
            }
            is_own_door = true;
        }
    }
    char text[NET_ADDRESS_TEXT_SIZE];
    net_address_text(address, text);
    if (is_own_door) {
        return buf_fail(message, ERR_PERM,
                        "%s port %u is 0asm itself, which --allow-private opens only where it "
                        "names the port",
                        text, port);
    }
    return buf_fail(message, ERR_PERM,
                    "%s is a%s %s address; guests reach those only where the server was started "
                    "with --allow-private for it",
                    text, strchr("aeiou", net_kind_text(kind)[0]) ? "n" : "", net_kind_text(kind));
}

static bool entry_fits(struct str entry, const struct net_host *host, uint16_t port) {
    bool is_wildcard = str_starts(entry, STR("*."));
    if (is_wildcard) {
        entry.data += 2;
        entry.length -= 2;
    }
    struct net_host wanted;
    uint16_t wanted_port;
    if (net_host_port_parse(entry, &wanted, &wanted_port, NULL) ||
        (wanted_port && wanted_port != port) || wanted.is_address != host->is_address) {
        return false;
    }
    if (wanted.is_address) {
        return !is_wildcard && net_address_equal(&wanted.address, &host->address);
    }
    size_t wanted_length = strlen(wanted.name), length = strlen(host->name);
    if (!is_wildcard) {
        return strcmp(wanted.name, host->name) == 0;
    }
    return length > wanted_length + 1 && host->name[length - wanted_length - 1] == '.' &&
           strcmp(host->name + length - wanted_length, wanted.name) == 0;
}

bool net_hosts_allow(struct str lines, const struct net_host *host, uint16_t port) {
    bool allows = lines.length == 0;
    while (lines.length > 0 && !allows) {
        struct str entry = str_cut(&lines, '\n');
        allows = str_equal_text(entry, "public") ||
                 (!str_equal_text(entry, "none") && entry_fits(entry, host, port));
    }
    return allows;
}

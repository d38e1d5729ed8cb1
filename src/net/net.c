#include "net/net_internal.h"

#include "base/clock.h"
#include "net/trust.h"

enum {
    IDLE_APPS_MAX = 64,       /* of a loop, whose connections are kept */
    KEPT_CONNECTIONS_MAX = 8, /* of one app on a loop */
};
/* An app that has not used its connections for so long loses them. */
#define IDLE_NS (60 * NS_PER_S)

struct use {
    struct map_node node;
    int64_t app_id;
    uint64_t count;
};

void net_party_done(struct net_party *party) {
    buf_done(&party->app_hosts);
    buf_done(&party->run_hosts);
}

struct net_loop *net_loop_of(struct net *net, const struct loop *loop) {
    struct net_loop *home = &net->loops[loop_index(loop)];
    INVARIANT(home->loop == loop);
    return home;
}

/* ---- how much an app may ---- */

static struct use *find_use(struct net *net, int64_t app_id) {
    struct map_node *node = map_find(&net->uses, MAP_KEY(app_id));
    return node ? CONTAINER_OF(node, struct use, node) : NULL;
}

static enum err add_use(struct net *net, int64_t app_id, struct use **ret_use) {
    struct use *use = calloc(1, sizeof *use);
    if (!use) {
        return ERR_NOMEM;
    }
    use->app_id = app_id;
    enum err err = map_insert(&net->uses, &use->node, MAP_KEY(use->app_id));
    if (err) {
        free(use);
        return err;
    }
    *ret_use = use;
    return ERR_OK;
}

/* With the lock. */
static enum err enter(struct net *net, int64_t app_id, struct buf *message) {
    struct use *use = find_use(net, app_id);
    if (net->use_count >= net->options.connections_max) {
        return buf_fail(message, ERR_BUSY,
                        "all apps together have %llu connections to the network; try again later",
                        (unsigned long long)net->use_count);
    }
    if (use && use->count >= net->options.connections_per_app) {
        return buf_fail(message, ERR_BUSY,
                        "the app has %llu connections to the network already; close some "
                        "(--net-connections)",
                        (unsigned long long)use->count);
    }
    enum err err = use ? ERR_OK : add_use(net, app_id, &use);
    if (!err) {
        use->count++;
        net->use_count++;
    }
    return err;
}

enum err net_enter(struct net *net, int64_t app_id, struct buf *message) {
    pthread_mutex_lock(&net->lock);
    enum err err = enter(net, app_id, message);
    pthread_mutex_unlock(&net->lock);
    return err;
}

void net_leave(struct net *net, int64_t app_id) {
    pthread_mutex_lock(&net->lock);
    struct use *use = find_use(net, app_id);
    INVARIANT(use);
    net->use_count--;
    if (--use->count == 0) {
        map_remove(&net->uses, &use->node);
        free(use);
    }
    pthread_mutex_unlock(&net->lock);
}

/* ---- apps on a loop ---- */

static void drop_app(struct net_app *app) {
    struct net_loop *home = app->home;
    map_remove(&home->apps, &app->node);
    list_remove(&app->idle);
    home->idle_count--;
    net_multi_free(app->multi);
    free(app);
}

static struct net_app *longest_idle(struct net_loop *home) {
    return list_is_empty(&home->idle) ? NULL : CONTAINER_OF(home->idle.next, struct net_app, idle);
}

static void on_idle_timer(struct loop_timer *timer) {
    struct net_loop *home = CONTAINER_OF(timer, struct net_loop, timer);
    struct net_app *app;
    uint64_t now_ns = loop_now_ns(home->loop);
    while ((app = longest_idle(home)) && now_ns - app->idle_since_ns >= IDLE_NS) {
        drop_app(app);
    }
    if (app) {
        loop_timer_start(home->loop, timer, app->idle_since_ns + IDLE_NS);
    }
}

enum err net_app_get(struct net_loop *home, int64_t app_id, struct net_app **ret_app) {
    struct map_node *node = map_find(&home->apps, MAP_KEY(app_id));
    struct net_app *app = node ? CONTAINER_OF(node, struct net_app, node) : NULL;
    if (!app) {
        app = calloc(1, sizeof *app);
        if (!app) {
            return ERR_NOMEM;
        }
        app->app_id = app_id;
        app->home = home;
        list_init(&app->idle);
        enum err err = net_multi_new(home->loop, KEPT_CONNECTIONS_MAX, &app->multi);
        if (!err) {
            err = map_insert(&home->apps, &app->node, MAP_KEY(app->app_id));
        }
        if (err) {
            net_multi_free(app->multi);
            free(app);
            return err;
        }
    } else if (app->users == 0) {
        list_remove(&app->idle);
        home->idle_count--;
    }
    app->users++;
    *ret_app = app;
    return ERR_OK;
}

void net_app_put(struct net_app *app) {
    struct net_loop *home = app->home;
    if (--app->users > 0) {
        return;
    }
    app->idle_since_ns = loop_now_ns(home->loop);
    list_append(&home->idle, &app->idle);
    if (++home->idle_count > IDLE_APPS_MAX) {
        drop_app(longest_idle(home));
    }
    if (!loop_timer_is_started(&home->timer)) {
        loop_timer_start(home->loop, &home->timer, app->idle_since_ns + IDLE_NS);
    }
}

/* ---- what may be reached ---- */

void net_note(const struct net_party *party, const char *format, ...) {
    if (!party->note) {
        return;
    }
    cleanup_buf struct buf line = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(&line, format, arguments);
    va_end(arguments);
    if (!err) {
        party->note(party->context, buf_str(&line));
    }
}

/* Whether each of the lists allows it. */
static bool lists_allow(struct str lists, const struct net_host *host, uint16_t port) {
    while (lists.length > 0) {
        const char *end = memmem(lists.data, lists.length, "\n\n", 2);
        size_t length = end ? (size_t)(end + 1 - lists.data) : lists.length;
        if (!net_hosts_allow((struct str){lists.data, length}, host, port)) {
            return false;
        }
        length = MIN(length + 1, lists.length);
        lists.data += length;
        lists.length -= length;
    }
    return true;
}

enum err net_check_host(const struct net_party *party, const struct net_host *host, uint16_t port,
                        struct buf *message) {
    const char *whose = !net_hosts_allow(buf_str(&party->app_hosts), host, port) ? "app"
                        : !lists_allow(buf_str(&party->run_hosts), host, port)   ? "run"
                                                                                 : NULL;
    if (!whose) {
        return ERR_OK;
    }
    net_note(party, "net: refused %s port %u: not in the %s's net=", host->name, port, whose);
    return buf_fail(message, ERR_PERM, "net= of the %s does not allow %s port %u", whose,
                    host->name, port);
}

enum err net_check_address(struct net *net, const struct net_party *party,
                           const struct net_host *host, uint16_t port,
                           const struct net_address *address, bool is_noted, struct buf *message) {
    char text[NET_ADDRESS_TEXT_SIZE];
    net_address_text(address, text);
    cleanup_buf struct buf why = {0};
    enum err err = net_policy_check(net->policy, host, port, address, &why);
    if (err) {
        net_note(party, "net: refused %s (%s) port %u: %s", host->name, text, port, buf_text(&why));
        return buf_fail(message, err, "%s", buf_text(&why));
    }
    if (is_noted) {
        net_note(party, "net: allowed %s (%s) port %u", host->name, text, port);
    }
    return ERR_OK;
}

enum err net_check_addresses(struct net *net, const struct net_party *party,
                             const struct net_host *host, uint16_t port,
                             struct net_addresses *addresses, struct buf *message) {
    size_t kept = 0;
    enum err first = ERR_HOSTUNREACH;
    for (size_t i = 0; i < addresses->count; i++) {
        struct net_address address = addresses->list[i];
        enum err err = net_check_address(net, party, host, port, &address, false,
                                         first == ERR_HOSTUNREACH ? message : NULL);
        if (!err) {
            addresses->list[kept++] = address;
        } else {
            first = err;
        }
    }
    addresses->count = kept;
    return kept > 0 ? ERR_OK : first;
}

/* ---- the whole ---- */

enum err net_new(const struct net_options *options, struct loop *const *loops, size_t loop_count,
                 struct net **ret_net, struct buf *message) {
    struct net *net = calloc(1, sizeof *net);
    struct net_loop *homes = calloc(loop_count, sizeof *homes);
    if (!net || !homes) {
        free(net);
        free(homes);
        return ERR_NOMEM;
    }
    net->options = *options;
    net->loops = homes;
    net->loop_count = loop_count;
    pthread_mutex_init(&net->lock, NULL);
    for (size_t i = 0; i < loop_count; i++) {
        homes[i].net = net;
        homes[i].loop = loops[i];
        list_init(&homes[i].idle);
        list_init(&homes[i].lingering);
        loop_timer_init(&homes[i].timer, on_idle_timer);
    }
    net_trust_set_file(options->ca_file);
    enum err err =
        net_policy_new(options->allow_private, options->allow_private_count, &net->policy, message);
    if (!err) {
        err = net_resolver_new(options->resolve, options->resolve_context, &net->resolver);
    }
    if (err) {
        net_free(net);
        return err;
    }
    *ret_net = net;
    return ERR_OK;
}

void net_set_own_port(struct net *net, uint16_t port) {
    net_policy_set_own_port(net->policy, port);
}

void net_free(struct net *net) {
    if (!net) {
        return;
    }
    for (size_t i = 0; i < net->loop_count; i++) {
        struct net_loop *home = &net->loops[i];
        loop_timer_stop(&home->timer);
        net_streams_end(home);
        struct net_app *app;
        while ((app = longest_idle(home))) {
            drop_app(app);
        }
        INVARIANT(home->apps.count == 0);
        map_done(&home->apps);
    }
    free(net->loops);
    INVARIANT(net->uses.count == 0);
    map_done(&net->uses);
    net_resolver_free(net->resolver);
    net_policy_free(net->policy);
    pthread_mutex_destroy(&net->lock);
    free(net);
}

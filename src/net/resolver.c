#include "net/resolver.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/thread.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    THREADS_MAX = 16,
    APP_THREADS_MAX = 4, /* lookups of one app at once */
    KNOWN_MAX = 1024,    /* names that are kept */
};
#define KNOWN_NS (30 * NS_PER_S)
#define IDLE_S 10 /* a thread that has nothing to do goes */

struct key {
    int64_t app_id;
    char name[NET_NAME_MAX + 1]; /* filled up with zeros */
};

struct known {
    struct map_node node;
    struct list age; /* in resolver->known_by_age, the oldest first */
    struct key key;
    uint64_t until_ns;
    struct net_addresses addresses;
};

/* Guarded by resolver->lock, but for what the thread that runs it has to itself. */
struct net_lookup {
    struct net_resolver *resolver;
    struct list link; /* in resolver->waiting */
    enum { WAITING, RUNNING, POSTED } state;
    bool is_cancelled;
    struct loop *loop;
    struct key key;
    struct net_host host;
    void (*also)(void);
    net_found_callback *found;
    void *argument;
    struct loop_post post;
    enum err err;
    struct net_addresses addresses;
    struct buf message;
};

struct net_resolver {
    net_resolve_function *resolve;
    void *context;
    pthread_mutex_t lock; /* guards the following */
    pthread_cond_t work;
    unsigned references; /* of the owner, and of each thread */
    bool is_stopping;
    unsigned threads, idle;
    struct list waiting;          /* of net_lookup.link */
    int64_t running[THREADS_MAX]; /* apps whose lookups are under way */
    size_t running_count;
    struct map known;
    struct list known_by_age;
};

static void unlock_unref(struct net_resolver *resolver) {
    bool is_last = --resolver->references == 0;
    pthread_mutex_unlock(&resolver->lock);
    if (is_last) {
        pthread_cond_destroy(&resolver->work);
        pthread_mutex_destroy(&resolver->lock);
        free(resolver);
    }
}

static void lookup_free(struct net_lookup *lookup) {
    buf_done(&lookup->message);
    free(lookup);
}

static enum err ask_system(void *context, const char *name, struct net_addresses *ret_addresses,
                           struct buf *message) {
    (void)context;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(name, NULL, &hints, &found);
    if (result != 0) {
        return buf_fail(message, ERR_HOSTUNREACH, "the name %s has no address: %s", name,
                        gai_strerror(result));
    }
    struct net_addresses addresses = {0};
    for (const struct addrinfo *next = found; next; next = next->ai_next) {
        if (addresses.count < NET_ADDRESSES_MAX &&
            net_address_of(next->ai_addr, &addresses.list[addresses.count]) == ERR_OK) {
            addresses.count++;
        }
    }
    freeaddrinfo(found);
    *ret_addresses = addresses;
    return addresses.count > 0
               ? ERR_OK
               : buf_fail(message, ERR_HOSTUNREACH, "the name %s has no address", name);
}

/* ---- what is kept; with the lock ---- */

static void forget(struct net_resolver *resolver, struct known *known) {
    map_remove(&resolver->known, &known->node);
    list_remove(&known->age);
    free(known);
}

static struct known *find_known(struct net_resolver *resolver, const struct key *key) {
    struct map_node *node = map_find(&resolver->known, MAP_KEY(*key));
    return node ? CONTAINER_OF(node, struct known, node) : NULL;
}

static void keep(struct net_resolver *resolver, const struct net_lookup *lookup) {
    struct known *old = find_known(resolver, &lookup->key);
    if (old) {
        forget(resolver, old);
    } else if (resolver->known.count >= KNOWN_MAX) {
        forget(resolver, CONTAINER_OF(resolver->known_by_age.next, struct known, age));
    }
    struct known *known = calloc(1, sizeof *known);
    if (!known) {
        return; /* asked again next time */
    }
    known->key = lookup->key;
    known->addresses = lookup->addresses;
    known->until_ns = clock_monotonic_ns() + KNOWN_NS;
    if (map_insert(&resolver->known, &known->node, MAP_KEY(known->key)) != ERR_OK) {
        free(known);
        return;
    }
    list_append(&resolver->known_by_age, &known->age);
}

static void make_key(int64_t app_id, const struct net_host *host, struct key *ret_key) {
    memset(ret_key, 0, sizeof *ret_key); /* compared as bytes */
    ret_key->app_id = app_id;
    memcpy(ret_key->name, host->name, strlen(host->name));
}

bool net_resolver_knows(struct net_resolver *resolver, int64_t app_id, const struct net_host *host,
                        struct net_addresses *ret_addresses) {
    if (host->is_address) {
        *ret_addresses = (struct net_addresses){.list = {host->address}, .count = 1};
        return true;
    }
    struct key key;
    make_key(app_id, host, &key);
    pthread_mutex_lock(&resolver->lock);
    struct known *known = find_known(resolver, &key);
    bool is_fresh = known && known->until_ns > clock_monotonic_ns();
    if (is_fresh) {
        *ret_addresses = known->addresses;
    } else if (known) {
        forget(resolver, known);
    }
    pthread_mutex_unlock(&resolver->lock);
    return is_fresh;
}

/* ---- the threads ---- */

static unsigned running_of(const struct net_resolver *resolver, int64_t app_id) {
    unsigned count = 0;
    for (size_t i = 0; i < resolver->running_count; i++) {
        count += resolver->running[i] == app_id;
    }
    return count;
}

/* The first that may run now, taken out of the queue. */
static struct net_lookup *take_lookup(struct net_resolver *resolver) {
    LIST_FOR_EACH (node, &resolver->waiting) {
        struct net_lookup *lookup = CONTAINER_OF(node, struct net_lookup, link);
        if (running_of(resolver, lookup->key.app_id) < APP_THREADS_MAX) {
            list_remove(&lookup->link);
            lookup->state = RUNNING;
            resolver->running[resolver->running_count++] = lookup->key.app_id;
            return lookup;
        }
    }
    return NULL;
}

static void ran(struct net_resolver *resolver, int64_t app_id) {
    for (size_t i = 0; i < resolver->running_count; i++) {
        if (resolver->running[i] == app_id) {
            resolver->running[i] = resolver->running[--resolver->running_count];
            return;
        }
    }
}

/* Asks without the lock. */
static void run_lookup(struct net_resolver *resolver, struct net_lookup *lookup) {
    pthread_mutex_unlock(&resolver->lock);
    if (lookup->host.is_address) {
        lookup->addresses = (struct net_addresses){.list = {lookup->host.address}, .count = 1};
    } else {
        lookup->err = resolver->resolve(resolver->context, lookup->host.name, &lookup->addresses,
                                        &lookup->message);
    }
    if (lookup->also) {
        lookup->also();
    }
    pthread_mutex_lock(&resolver->lock);
    ran(resolver, lookup->key.app_id);
    if (lookup->is_cancelled) {
        lookup_free(lookup);
        return;
    }
    if (!lookup->err && !lookup->host.is_address) {
        keep(resolver, lookup);
    }
    lookup->state = POSTED;
    loop_post(lookup->loop, &lookup->post);
}

static void *thread_main(void *argument) {
    struct net_resolver *resolver = argument;
    thread_set_name("resolver");
    pthread_mutex_lock(&resolver->lock);
    while (!resolver->is_stopping) {
        struct net_lookup *lookup = take_lookup(resolver);
        if (lookup) {
            run_lookup(resolver, lookup);
            pthread_cond_signal(&resolver->work); /* another of its app may be waiting */
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += IDLE_S;
        resolver->idle++;
        int result = pthread_cond_timedwait(&resolver->work, &resolver->lock, &until);
        resolver->idle--;
        if (result != 0 && list_is_empty(&resolver->waiting)) {
            break;
        }
    }
    resolver->threads--;
    unlock_unref(resolver);
    return NULL;
}

/* With the lock. */
static enum err start_thread(struct net_resolver *resolver) {
    if (resolver->idle > 0 || resolver->threads == THREADS_MAX) {
        return ERR_OK;
    }
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    resolver->references++;
    resolver->threads++;
    int result = pthread_create(&thread, &attributes, thread_main, resolver);
    pthread_attr_destroy(&attributes);
    if (result != 0) {
        resolver->references--;
        resolver->threads--;
        return resolver->threads > 0 ? ERR_OK : err_from_errno(result);
    }
    return ERR_OK;
}

/* ---- lookups ---- */

static void on_posted(struct loop_post *post) {
    struct net_lookup *lookup = CONTAINER_OF(post, struct net_lookup, post);
    if (!lookup->is_cancelled) {
        lookup->found(lookup->argument, lookup->err, &lookup->addresses, buf_str(&lookup->message));
    }
    lookup_free(lookup);
}

enum err net_lookup_start(struct net_resolver *resolver, struct loop *loop, int64_t app_id,
                          const struct net_host *host, void (*also)(void),
                          net_found_callback *found, void *argument,
                          struct net_lookup **ret_lookup) {
    struct net_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup) {
        return ERR_NOMEM;
    }
    lookup->resolver = resolver;
    lookup->loop = loop;
    make_key(app_id, host, &lookup->key);
    lookup->host = *host;
    lookup->also = also;
    lookup->found = found;
    lookup->argument = argument;
    lookup->post.run = on_posted;
    pthread_mutex_lock(&resolver->lock);
    enum err err = start_thread(resolver);
    if (!err) {
        list_append(&resolver->waiting, &lookup->link);
        pthread_cond_signal(&resolver->work);
    }
    pthread_mutex_unlock(&resolver->lock);
    if (err) {
        lookup_free(lookup);
        return err;
    }
    *ret_lookup = lookup;
    return ERR_OK;
}

void net_lookup_cancel(struct net_lookup *lookup) {
    struct net_resolver *resolver = lookup->resolver;
    pthread_mutex_lock(&resolver->lock);
    bool is_ours = lookup->state == WAITING;
    if (is_ours) {
        list_remove(&lookup->link);
    } else {
        lookup->is_cancelled = true; /* the thread, or the post, frees it */
    }
    pthread_mutex_unlock(&resolver->lock);
    if (is_ours) {
        lookup_free(lookup);
    }
}

enum err net_resolver_new(net_resolve_function *resolve, void *context,
                          struct net_resolver **ret_resolver) {
    struct net_resolver *resolver = calloc(1, sizeof *resolver);
    if (!resolver) {
        return ERR_NOMEM;
    }
    resolver->resolve = resolve ? resolve : ask_system;
    resolver->context = context;
    resolver->references = 1;
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&resolver->work, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&resolver->waiting);
    list_init(&resolver->known_by_age);
    *ret_resolver = resolver;
    return ERR_OK;
}

void net_resolver_free(struct net_resolver *resolver) {
    if (!resolver) {
        return;
    }
    pthread_mutex_lock(&resolver->lock);
    INVARIANT(list_is_empty(&resolver->waiting));
    resolver->is_stopping = true;
    while (!list_is_empty(&resolver->known_by_age)) {
        forget(resolver, CONTAINER_OF(resolver->known_by_age.next, struct known, age));
    }
    map_done(&resolver->known);
    pthread_cond_broadcast(&resolver->work);
    unlock_unref(resolver);
}

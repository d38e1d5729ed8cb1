#include "net/multi.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"

#include <pthread.h>
#include <unistd.h>

/* A socket that libcurl wants to be watched. */
struct socket {
    struct map_node node; /* in multi->sockets */
    curl_socket_t descriptor;
    struct net_multi *multi;
    struct loop_watch *watch;
};

struct net_multi {
    CURLM *curl;
    struct loop *loop;
    struct loop_timer timer;
    struct map sockets; /* by descriptor */
    size_t count;
};

static void drop_socket(struct socket *socket) {
    map_remove(&socket->multi->sockets, &socket->node);
    loop_watch_free(socket->watch);
    free(socket);
}

static struct socket *find_socket(struct net_multi *multi, curl_socket_t descriptor) {
    struct map_node *node = map_find(&multi->sockets, MAP_KEY(descriptor));
    return node ? CONTAINER_OF(node, struct socket, node) : NULL;
}

/* Hands transfers that have ended back to their owners. */
static void collect(struct net_multi *multi) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi->curl, &left))) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode result = message->data.result; /* the message is gone with the next call */
        struct net_easy *easy = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&easy);
        net_multi_remove(easy);
        easy->done(easy, result);
    }
}

static void on_events(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch;
    struct socket *socket = argument;
    struct net_multi *multi = socket->multi;
    int bits = (events & LOOP_READABLE ? CURL_CSELECT_IN : 0) |
               (events & LOOP_WRITABLE ? CURL_CSELECT_OUT : 0);
    int running;
    curl_multi_socket_action(multi->curl, socket->descriptor, bits, &running);
    collect(multi); /* the socket may be gone */
}

static void on_timer(struct loop_timer *timer) {
    struct net_multi *multi = CONTAINER_OF(timer, struct net_multi, timer);
    int running;
    curl_multi_socket_action(multi->curl, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(multi);
}

void net_multi_kick(struct net_multi *multi) {
    int running;
    curl_multi_socket_action(multi->curl, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(multi);
}

/* libcurl wants the timer at another time. */
static int set_timer(CURLM *curl, long timeout_ms, void *argument) {
    (void)curl;
    struct net_multi *multi = argument;
    if (timeout_ms < 0) {
        loop_timer_stop(&multi->timer);
    } else {
        loop_timer_start(multi->loop, &multi->timer,
                         loop_now_ns(multi->loop) + (uint64_t)timeout_ms * NS_PER_MS);
    }
    return 0;
}

static enum err new_socket(struct net_multi *multi, curl_socket_t descriptor, unsigned events) {
    struct socket *socket = calloc(1, sizeof *socket);
    if (!socket) {
        return ERR_NOMEM;
    }
    socket->descriptor = descriptor;
    socket->multi = multi;
    enum err err =
        loop_watch_new(multi->loop, descriptor, events, on_events, socket, &socket->watch);
    if (!err) {
        err = map_insert(&multi->sockets, &socket->node, MAP_KEY(socket->descriptor));
    }
    if (err) {
        loop_watch_free(socket->watch);
        free(socket);
    }
    return err;
}

/* libcurl wants a socket to be watched, otherwise than before, or no more. */
static int set_socket(CURL *curl, curl_socket_t descriptor, int what, void *argument,
                      void *of_socket) {
    (void)curl, (void)of_socket;
    struct net_multi *multi = argument;
    struct socket *socket = find_socket(multi, descriptor);
    if (what == CURL_POLL_REMOVE) {
        if (socket) {
            drop_socket(socket);
        }
        return 0;
    }
    unsigned events = (what & CURL_POLL_IN ? (unsigned)LOOP_READABLE : 0) |
                      (what & CURL_POLL_OUT ? (unsigned)LOOP_WRITABLE : 0);
    if (socket) {
        loop_watch_change(socket->watch, events);
        return 0;
    }
    return new_socket(multi, descriptor, events) == ERR_OK ? 0 : -1;
}

/* libcurl may close a socket without having said that it need not be watched: a connection that is
 * given up while it is made, one of two that raced. The watch must go before the number is used
 * again. */
static int close_socket(void *argument, curl_socket_t descriptor) {
    struct net_multi *multi = argument;
    struct socket *socket = find_socket(multi, descriptor);
    if (socket) {
        drop_socket(socket);
    }
    return close(descriptor);
}

static void start_curl(void) {
    INVARIANT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

enum err net_multi_new(struct loop *loop, unsigned kept_max, struct net_multi **ret_multi) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    struct net_multi *multi = calloc(1, sizeof *multi);
    CURLM *curl = multi ? curl_multi_init() : NULL;
    if (!curl) {
        free(multi);
        return ERR_NOMEM;
    }
    multi->curl = curl;
    multi->loop = loop;
    loop_timer_init(&multi->timer, on_timer);
    curl_multi_setopt(curl, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(curl, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt(curl, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(curl, CURLMOPT_TIMERDATA, multi);
    curl_multi_setopt(curl, CURLMOPT_MAXCONNECTS, (long)kept_max);
    curl_multi_setopt(curl, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    *ret_multi = multi;
    return ERR_OK;
}

void net_multi_free(struct net_multi *multi) {
    if (!multi) {
        return;
    }
    INVARIANT(multi->count == 0);
    curl_multi_cleanup(multi->curl); /* closes what is kept, by close_socket */
    loop_timer_stop(&multi->timer);
    struct map_node *node;
    while ((node = map_next(&multi->sockets, NULL))) {
        drop_socket(CONTAINER_OF(node, struct socket, node));
    }
    map_done(&multi->sockets);
    free(multi);
}

size_t net_multi_count(const struct net_multi *multi) {
    return multi->count;
}

enum err net_easy_new(void (*done)(struct net_easy *easy, CURLcode result),
                      struct net_easy *ret_easy) {
    CURL *curl = curl_easy_init();
    if (!curl) {
        return ERR_NOMEM;
    }
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* never wait for a resolver's thread */
    ret_easy->curl = curl;
    ret_easy->multi = NULL;
    ret_easy->done = done;
    return ERR_OK;
}

void net_easy_free(struct net_easy *easy) {
    if (easy->multi) {
        net_multi_remove(easy);
    }
    if (easy->curl) {
        curl_easy_cleanup(STEAL(easy->curl));
    }
}

enum err net_multi_add(struct net_multi *multi, struct net_easy *easy) {
    curl_easy_setopt(easy->curl, CURLOPT_PRIVATE, easy);
    curl_easy_setopt(easy->curl, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy->curl, CURLOPT_CLOSESOCKETDATA, multi);
    if (curl_multi_add_handle(multi->curl, easy->curl) != CURLM_OK) {
        return ERR_NOMEM;
    }
    easy->multi = multi;
    multi->count++;
    return ERR_OK;
}

void net_multi_remove(struct net_easy *easy) {
    struct net_multi *multi = STEAL(easy->multi);
    multi->count--;
    curl_multi_remove_handle(multi->curl, easy->curl);
}

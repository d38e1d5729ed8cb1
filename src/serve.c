#include "serve.h"

#include "api/api.h"
#include "api/trim.h"
#include "base/clock.h"
#include "base/cores.h"
#include "base/log.h"
#include "base/thread.h"
#include "dev/net.h"
#include "dev/root.h"
#include "dev/service.h"
#include "dev/tree.h"
#include "ns/temporary.h"
#include "serve_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS_MAX 256
/* After the runs have ended: what their answers get to reach the clients. */
#define ANSWERS_GRACE_NS (2 * NS_PER_S)
#define POLL_NS (10 * NS_PER_MS)

struct server {
    struct serve_options options;
    struct place {
        const char *option; /* "--listen" */
        char host[64];
        uint16_t port;
        bool is_loopback;
    } control, web; /* web.host is empty without --web */
    size_t thread_count;
    /* One a thread for connections, and behind them as many for programs that compute. */
    size_t loop_count;
    struct loop *loops[2 * THREADS_MAX];
    /* One a loop that listens for the control door; then, with --web, for the web door. */
    struct http_server *http[2 * THREADS_MAX];
    size_t http_count;
    pthread_t threads[2 * THREADS_MAX];
    struct api api;
    struct http_application application, web_application;
    struct tree *tree;
    struct net *net;
    struct file *net_root;
    struct alarms *alarms;
    /* stopping; all on the first loop */
    struct trim trim;
    struct loop_timer stop_timer;
    uint64_t answers_deadline_ns;
    struct quiesce {
        struct loop_post post;
        struct http_server **http; /* points to NULL once it was freed */
    } quiesces[2 * THREADS_MAX];
    bool stopping;
};

/* --- the address ------------------------------------------------------------------------------ */

static enum err parse_place(const char *option, const char *value, struct place *place,
                            struct buf *message) {
    struct str text = str_of(value);
    place->option = option;
    const char *colon = memrchr(text.data, ':', text.length);
    uint64_t port = 0;
    if (!colon || str_to_u64(str_of(colon + 1), &port) || port > UINT16_MAX) {
        return buf_fail(message, ERR_INVAL,
                        "%s '%s' is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080", option,
                        text.data);
    }
    struct str host = {text.data, (size_t)(colon - text.data)};
    if (host.length > 2 && host.data[0] == '[' && host.data[host.length - 1] == ']') {
        host.data++;
        host.length -= 2;
    }
    if (str_equal_text(host, "localhost")) {
        host = STR("127.0.0.1");
    }
    if (host.length == 0 || host.length >= sizeof place->host) {
        return buf_fail(message, ERR_INVAL, "%s '%s' has no address", option, text.data);
    }
    memcpy(place->host, host.data, host.length);
    place->port = (uint16_t)port;
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, place->host, &v4) == 1) {
        place->is_loopback = ntohl(v4.s_addr) >> 24 == 127;
    } else if (inet_pton(AF_INET6, place->host, &v6) == 1) {
        place->is_loopback = IN6_IS_ADDR_LOOPBACK(&v6);
    } else {
        return buf_fail(message, ERR_INVAL, "%s: '%s' is no address; a name can't be used", option,
                        place->host);
    }
    return ERR_OK;
}

static enum err prepare_access(struct server *server, struct buf *message) {
    struct access *access = &server->api.access;
    access->token_required = !server->control.is_loopback;
    access->trusted_proxies = server->options.trust_proxy.values;
    access->trusted_proxy_count = server->options.trust_proxy.count;
    access->domain = server->options.domain[0] ? server->options.domain : NULL;
    enum err err = access_load(access, server->options.state, message);
    if (err) {
        return err;
    }
    const char *token = getenv("ZASM_TOKEN");
    if (token && token[0] && access_add_token(access, str_of(token))) {
        return buf_fail(message, ERR_INVAL,
                        "$ZASM_TOKEN is too short to be a secret: 16 "
                        "characters at least; '0asm token' makes a good one");
    }
    /* Its private apps need a token where strangers may come; without one nobody sees them. */
    server->api.web_access = *access;
    server->api.web_access.token_required = !server->web.is_loopback;
    bool needed = access->token_required || access->trusted_proxy_count > 0;
    if (needed && access->token_count == 0) {
        return buf_fail(message, ERR_ACCES,
                        "%s needs a token, so that not everybody can use it: set $ZASM_TOKEN, or "
                        "make one with '0asm token --state %s'",
                        access->token_required ? "an address that is not loopback"
                                               : "--trust-proxy",
                        server->options.state);
    }
    return ERR_OK;
}

/* --- the process ------------------------------------------------------------------------------ */

static void prepare_process(const struct server *server) {
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of the write */
    umask(077);
    /* A dump of this process would hold secrets and what strangers' programs had in memory. */
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) {
        log_warning("core dumps can't be turned off: %s", strerror(errno));
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
            log_warning("the limit of open files stays low: %s", strerror(errno));
        }
    }
    char workers[24];
    snprintf(workers, sizeof workers, "%zu", MAX(4, server->thread_count * 2));
    setenv("UV_THREADPOOL_SIZE", workers, 0);
    loop_start_workers();
}

static enum err set_log_level(const char *name, struct buf *message) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            log_set_level((enum log_level)i);
            return ERR_OK;
        }
    }
    return buf_fail(message, ERR_INVAL, "--log-level '%s' is none of error, warning, info, debug",
                    name);
}

/* --- the parts -------------------------------------------------------------------------------- */

static enum err start_store(struct server *server, struct buf *message) {
    const struct serve_options *options = &server->options;
    enum err err = catalog_open(options->state, &server->api.catalog, message);
    if (err) {
        return err;
    }
    cleanup_buf struct buf path = {0};
    struct applog_limits limits = {.bytes_max = options->log_bytes,
                                   .age_max_ns = options->log_age_ns};
    err = buf_printf(&path, "%s/logs", options->state);
    if (!err) {
        err = applog_set_new(buf_text(&path), &limits, &server->api.logs);
    }
    return err ? buf_fail(message, err, "%s can't be used: %s", buf_text(&path), err_text(err))
               : ERR_OK;
}

/* A part of the descriptors that we may have: others need theirs. */
static uint64_t descriptors_share(void) {
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) == 0 ? MAX(files.rlim_cur / 4, 64) : 64;
}

static enum err start_runs(struct server *server, struct buf *message) {
    const struct serve_options *options = &server->options;
    struct engine_options engine = {
        .sandboxes_max = (uint32_t)options->runs_max,
        .memory_max_bytes = 4 * GIB,
        .keep_resident_bytes = MIB,
    };
    enum err err = engine_new(&engine, &server->api.engine, message);
    if (err) {
        return err;
    }
    struct runs_options runs = {
        .defaults = {.memory_bytes = options->memory_bytes,
                     .cpu_ns = options->cpu_ns,
                     .wall_ns = options->wall_ns,
                     .output_bytes = options->output_bytes,
                     .tmp_bytes = options->tmp_bytes,
                     .disk_bytes = options->disk_bytes,
                     .files = options->disk_inodes,
                     .open_files = options->open_files},
        .computing_loops = server->loop_count - server->thread_count,
        .detached_wall_ns = options->detached_wall_ns,
        .keep_ns = options->keep_ns,
        .max_runs_per_app = (uint32_t)options->max_runs,
        .queue_per_app = (uint32_t)options->queue,
        .queue_wait_ns = options->queue_wait_ns,
        .unheard_ns = options->unheard_ns,
        .max_runs = (uint32_t)options->runs_max,
        .kept_max = (uint32_t)options->kept_max,
        .kept_bytes_max = options->kept_bytes,
        .kept_file_bytes = options->kept_bytes / descriptors_share(),
        .core_bytes_max = options->core_bytes,
        .cores_bytes_max = options->cores_bytes,
        .compile = {.memory_bytes = options->compile_memory_bytes,
                    .cpu_seconds = options->compile_wall_ns / NS_PER_S * server->thread_count,
                    .wall_ns = options->compile_wall_ns,
                    .at_once = (unsigned)options->compile_at_once},
    };
    struct tree_options tree = {.catalog = server->api.catalog,
                                .disk_bytes = options->disk_bytes,
                                .disk_inodes = options->disk_inodes};
    err = tree_new(&tree, &server->tree);
    if (err) {
        return buf_fail(message, err, "the tree can't be made: %s", err_text(err));
    }
    struct run_hooks hooks = tree_hooks(server->tree);
    err = runs_new(&runs, server->api.engine, server->api.catalog, server->api.logs, &hooks,
                   server->loops, server->loop_count, &server->api.runs);
    if (err) {
        return buf_fail(message, err, "runs can't be prepared: %s", err_text(err));
    }
    err = services_new(server->api.catalog, server->api.runs, &server->api.services);
    if (err) {
        return buf_fail(message, err, "services can't be prepared: %s", err_text(err));
    }
    const struct alarms_options alarms = {.runs = server->api.runs,
                                          .catalog = server->api.catalog,
                                          .logs = server->api.logs,
                                          .loop = server->loops[0]};
    err = alarms_new(&alarms, &server->alarms, message);
    if (err) {
        return err;
    }
    struct dev_root_options root = {.alarms = server->alarms,
                                    .catalog = server->api.catalog,
                                    .runs = server->api.runs,
                                    .services = server->api.services,
                                    .logs = server->api.logs,
                                    .tree = server->tree};
    err = dev_root_new(&root, &server->api.root);
    if (!err) {
        err = ns_new(server->api.root, &server->api.tree);
    }
    if (!err) {
        err = tree_set_cloud(server->tree, server->api.runs, server->api.root);
    }
    return err ? buf_fail(message, err, "the tree can't be made: %s", err_text(err)) : ERR_OK;
}

static enum err start_net(struct server *server, struct buf *message) {
    const struct serve_options *options = &server->options;
    struct net_options net = {.allow_private = options->allow_private.values,
                              .allow_private_count = options->allow_private.count,
                              .ca_file = options->ca_file,
                              .connections_per_app = options->net_connections,
                              .connections_max = descriptors_share(),
                              .timeout_ns = options->net_timeout_ns,
                              .bytes_max = options->net_bytes};
    enum err err = net_new(&net, server->loops, server->loop_count, &server->net, message);
    if (err) {
        return err;
    }
    struct dev_net_options root = {
        .net = server->net, .runs = server->api.runs, .catalog = server->api.catalog};
    err = dev_net_new(&root, &server->net_root);
    if (err) {
        return buf_fail(message, err, "the network can't be prepared: %s", err_text(err));
    }
    tree_set_net(server->tree, server->net_root);
    return ERR_OK;
}

/* Our loops share their port (SO_REUSEPORT), which would also let a second server join in: half of
 * the requests would go to each. So the port is first asked for alone. */
static enum err claim_port(const struct place *place, struct buf *message) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v4 = {.sin_family = AF_INET, .sin_port = htons(place->port)}};
    socklen_t length = sizeof address.v4;
    if (inet_pton(AF_INET, place->host, &address.v4.sin_addr) != 1) {
        address.v6 =
            (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(place->port)};
        length = sizeof address.v6;
        if (inet_pton(AF_INET6, place->host, &address.v6.sin6_addr) != 1) {
            return ERR_INVAL;
        }
    }
    int on = 1;
    int descriptor = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = descriptor >= 0 &&
                   setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                   bind(descriptor, &address.any, length) == 0;
    enum err err = is_free ? ERR_OK : err_from_errno(errno);
    if (descriptor >= 0) {
        close(descriptor);
    }
    return err ? buf_fail(message, err, "can't listen on %s port %u: %s; choose another with %s",
                          place->host, place->port, err_text(err), place->option)
               : ERR_OK;
}

/* How many loops listen: where fewer connections are allowed, not all of them. */
static size_t listening_loops(const struct server *server) {
    return MIN(server->thread_count, server->options.connections);
}

/* How many connections the loop with this index may have: together exactly what is allowed. */
static uint32_t connections_of(const struct server *server, size_t index) {
    uint64_t all = server->options.connections, loops = listening_loops(server);
    return (uint32_t)(all / loops + (index < all % loops));
}

/* One HTTP server a loop that listens, on one port. */
static enum err listen_on(struct server *server, struct place *place,
                          const struct http_application *application, struct buf *message) {
    const struct serve_options *options = &server->options;
    enum err err = claim_port(place, message);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < listening_loops(server); i++) {
        struct http_options http = {
            .address = place->host,
            .port = place->port,
            .connections_max = connections_of(server, i),
            .connections_per_address_max = (uint32_t)options->connections_per_address,
            .head_timeout_ns = options->head_timeout_ns,
            .body_rate_timeout_ns = options->body_timeout_ns,
            .body_rate_minimum = KIB,
            .head_bytes_max = 32 * KIB,
        };
        struct http_server **http_server = &server->http[server->http_count];
        err = http_server_new(server->loops[i], &http, application, http_server, message);
        if (err) {
            return err;
        }
        server->http_count++;
        /* All loops listen on the port that the first one was given. */
        place->port = http_port(*http_server);
    }
    return ERR_OK;
}

static enum err start_http(struct server *server, struct buf *message) {
    const struct serve_options *options = &server->options;
    server->api.limits = (struct api_limits){.upload_bytes_max = options->upload_bytes,
                                             .module_bytes_max = options->module_bytes};
    server->api.loops = server->loops;
    server->api.servers = server->http;
    server->api.loop_count = server->thread_count;
    server->api.started_ns = clock_monotonic_ns();
    server->application = api_application(&server->api);
    server->web_application = api_web_application(&server->api);
    enum err err = listen_on(server, &server->control, &server->application, message);
    if (!err && server->web.host[0]) {
        err = listen_on(server, &server->web, &server->web_application, message);
    }
    server->api.server_count = server->http_count;
    net_set_own_port(server->net, server->control.port);
    return err;
}

/* --- stopping --------------------------------------------------------------------------------- */

static void stop_loops(struct server *server) {
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_stop(server->loops[i]);
    }
}

/* The runs have ended; their answers may still be on their way. */
static void stop_timer_expired(struct loop_timer *timer) {
    struct server *server = CONTAINER_OF(timer, struct server, stop_timer);
    uint32_t exchanges = 0;
    for (size_t i = 0; i < server->http_count; i++) {
        exchanges += http_server_exchanges(server->http[i]);
    }
    uint64_t now_ns = clock_monotonic_ns();
    if (exchanges == 0 || now_ns >= server->answers_deadline_ns) {
        stop_loops(server);
        return;
    }
    loop_timer_start(server->loops[0], timer, now_ns + POLL_NS);
}

static void runs_have_ended(void *argument) {
    struct server *server = argument;
    uint64_t now_ns = clock_monotonic_ns();
    server->answers_deadline_ns = now_ns + ANSWERS_GRACE_NS;
    loop_timer_start(server->loops[0], &server->stop_timer, now_ns);
}

/* May come as late as when the loops are freed, if they stop at once. */
static void quiesce_loop(struct loop_post *post) {
    struct http_server *http = *CONTAINER_OF(post, struct quiesce, post)->http;
    if (http) {
        http_server_quiesce(http);
    }
}

static void stop_requested(void *argument) {
    struct server *server = argument;
    if (server->stopping) {
        /* The loops go on until the runs have really ended: they are freed after that. */
        log_info("stopping at once");
        runs_shut_down(server->api.runs, server->loops[0], 0, runs_have_ended, server);
        return;
    }
    server->stopping = true;
    alarms_quiesce(server->alarms);
    log_info("stopping: no new runs; those that run get %llu s (a second signal ends them now)",
             (unsigned long long)(server->options.grace_ns / NS_PER_S));
    atomic_store(&server->api.shutting_down, true);
    services_stop(server->api.services);
    atomic_store(&server->api.ready, false);
    for (size_t i = 0; i < server->http_count; i++) {
        struct quiesce *quiesce = &server->quiesces[i];
        quiesce->http = &server->http[i];
        quiesce->post.run = quiesce_loop;
        loop_post(server->loops[i % listening_loops(server)], &quiesce->post);
    }
    runs_shut_down(server->api.runs, server->loops[0], server->options.grace_ns, runs_have_ended,
                   server);
}

/* --- life ------------------------------------------------------------------------------------- */

static void *prompt_thread(void *argument) {
    if (loop_index(argument) > 0) { /* the first is the process's own thread, and named like it */
        thread_set_name("loop-%u", loop_index(argument));
    }
    loop_set_priority(LOOP_PROMPT);
    loop_run(argument);
    return NULL;
}

static void *computing_thread(void *argument) {
    thread_set_name("compute-%u", loop_index(argument));
    loop_set_priority(LOOP_COMPUTING);
    loop_run(argument);
    return NULL;
}

static enum err start(struct server *server, struct buf *message) {
    const struct serve_options *options = &server->options;
    enum err err = parse_place("--listen", options->listen, &server->control, message);
    if (!err && options->web[0]) {
        err = parse_place("--web", options->web, &server->web, message);
    }
    if (!err) {
        err = set_log_level(server->options.log_level, message);
    }
    if (!err) {
        err = prepare_access(server, message);
    }
    if (err) {
        return err;
    }
    server->thread_count =
        server->options.threads ? server->options.threads : MIN(core_count(), THREADS_MAX);
    server->loop_count = 2 * server->thread_count;
    prepare_process(server);
    for (size_t i = 0; i < server->loop_count; i++) {
        err = loop_new((unsigned)i, &server->loops[i]);
        if (err) {
            return buf_fail(message, err, "an event loop can't be made: %s", err_text(err));
        }
    }
    loop_timer_init(&server->stop_timer, stop_timer_expired);
    err = start_store(server, message);
    if (!err) {
        err = start_runs(server, message);
    }
    if (!err) {
        err = start_net(server, message);
    }
    if (!err) {
        err = start_http(server, message);
    }
    if (!err) {
        trim_start(&server->trim, server->loops[0], &server->api);
    }
    if (!err) {
        err = loop_on_signal(server->loops[0], SIGTERM, stop_requested, server);
    }
    if (!err) {
        err = loop_on_signal(server->loops[0], SIGINT, stop_requested, server);
    }
    return err;
}

static bool is_at_work(const struct server *server) {
    for (size_t i = 0; i < server->loop_count; i++) {
        if (server->loops[i] && loop_has_works(server->loops[i])) {
            return true;
        }
    }
    return ns_has_removals() || (server->api.engine && engine_is_compiling(server->api.engine));
}

/* Compilers whose requests are gone have been killed, and their ends have to be noticed. Workers go
 * on with what nobody waits for any longer, and use the catalog and the engine. What uploads that
 * were cut off have left goes from its volumes, which some may have to wait for. Posts between the
 * loops, which may have come when theirs had stopped, are done with, too. */
static void await_works(struct server *server) {
    for (bool is_first = true; is_first || is_at_work(server); is_first = false) {
        if (!is_first) {
            usleep(1000);
        }
        for (size_t i = 0; i < server->loop_count; i++) {
            if (server->loops[i]) {
                loop_turn(server->loops[i]);
            }
        }
    }
}

/* In the order in which the parts use each other; accepts a server that did not start whole. */
static void finish(struct server *server) {
    for (size_t i = 0; i < server->http_count; i++) {
        http_server_free(STEAL(server->http[i]));
    }
    trim_stop(&server->trim);
    alarms_stop(server->alarms);
    await_works(server);
    ns_unref(server->api.tree);
    file_unref(server->api.root);
    services_free(server->api.services);
    runs_free(server->api.runs);
    tree_free(server->tree);
    file_unref(server->net_root);
    net_free(server->net);
    applog_set_free(server->api.logs);
    catalog_free(server->api.catalog);
    engine_free(server->api.engine);
    refusals_done(&server->api.refusals);
    for (size_t i = 0; i < server->loop_count; i++) {
        loop_free(server->loops[i]);
    }
    alarms_free(server->alarms);
}

static void print_place(const char *what, const struct place *place) {
    bool is_v6 = strchr(place->host, ':') != NULL;
    printf("%s http://%s%s%s:%u\n", what, is_v6 ? "[" : "", place->host, is_v6 ? "]" : "",
           place->port);
}

static int serve_run(int argc, char **argv) {
    static struct server server; /* large, and one a process */
    cleanup_buf struct buf message = {0};
    enum err err = serve_options_parse(argc, argv, &server.options, &message);
    if (err) {
        return command_misused(&command_serve, "%s", buf_text(&message));
    }
    refusals_init(&server.api.refusals);
    err = start(&server, &message);
    if (err) {
        fprintf(stderr, "error: %s\n", message.length ? buf_text(&message) : err_text(err));
        finish(&server);
        return 1;
    }
    print_place("listening on", &server.control);
    if (server.web.host[0]) {
        print_place("web door on", &server.web);
    }
    fflush(stdout);
    atomic_store(&server.api.ready, true);
    for (size_t i = 1; i < server.loop_count; i++) {
        void *(*run)(void *) = i < server.thread_count ? prompt_thread : computing_thread;
        int failure = pthread_create(&server.threads[i], NULL, run, server.loops[i]);
        if (failure) {
            log_fatal("a thread can't be started: %s", strerror(failure));
        }
    }
    prompt_thread(server.loops[0]);
    for (size_t i = 1; i < server.loop_count; i++) {
        pthread_join(server.threads[i], NULL);
    }
    finish(&server);
    log_info("stopped; everything is on disk");
    return 0;
}

/* The help is made of the option rows; it is printed below command->help. */
static void print_serve_help(void) {
    const char *group = "";
    for (size_t i = 0; i < serve_option_count; i++) {
        const struct option_row *row = &serve_option_rows[i];
        if (strcmp(group, row->group) != 0) {
            group = row->group;
            printf("\n%s:\n", group);
        }
        char option[64];
        snprintf(option, sizeof option, "--%s %s", row->name, row->value);
        printf("  %-32s %s%s%s%s\n", option, row->help, row->initial[0] ? " (" : "", row->initial,
               row->initial[0] ? ")" : "");
    }
}

const struct command command_serve = {
    .name = "serve",
    .usage = "[--listen ADDRESS:PORT] [--state DIR] [OPTIONS]",
    .summary = "start a server",
    .help = "Prints 'listening on http://ADDRESS:PORT' when it is ready. SIGTERM or Ctrl-C stops "
            "it:\nno new runs, those that run get --grace, then everything is on disk.\n"
            "An address that is not loopback needs a token: $ZASM_TOKEN, or '0asm token'.\n",
    .print_more = print_serve_help,
    .run = serve_run,
};

static int token_run(int argc, char **argv) {
    const char *state = "state";
    const char *comment = "";
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--state") == 0 && has_value) {
            state = argv[++i];
        } else if (strcmp(argv[i], "--comment") == 0 && has_value) {
            comment = argv[++i];
        } else {
            return command_misused(&command_token, "'%s' is not understood", argv[i]);
        }
    }
    if (strpbrk(comment, "\r\n")) {
        return command_misused(&command_token, "a comment is one line");
    }
    cleanup_buf struct buf token = {0};
    cleanup_buf struct buf message = {0};
    enum err err = access_new_token(state, comment, &token, &message);
    if (err) {
        fprintf(stderr, "error: %s\n", message.length ? buf_text(&message) : err_text(err));
        return 1;
    }
    printf("%s\n", buf_text(&token));
    fprintf(stderr,
            "Keep it: only its hash is stored, in %s/tokens. A server that runs already "
            "knows it after a restart.\nClients send 'Authorization: Bearer TOKEN'; 0asm "
            "itself takes it from $ZASM_TOKEN.\n",
            state);
    return 0;
}

const struct command command_token = {
    .name = "token",
    .usage = "[--state DIR] [--comment TEXT]",
    .summary = "make a token for a server's state directory",
    .help = "  --state DIR      the server's state directory (state)\n"
            "  --comment TEXT   whose it is; kept beside the hash\n",
    .run = token_run,
};

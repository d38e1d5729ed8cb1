/* What HTTP can do: the routes, and the life of a request.
 *
 * A request arrives with its head. It passes access control (access.h), finds its route in the
 * table (routes.c: one row a verb and path, with its help and its role; docs/http.md is generated
 * from the rows), and from then on belongs to the route's handler. Handlers are polled state
 * machines: they use request->op for whatever has to wait and are stepped when it wakes.
 *
 *     start → body* → body_end → (step)* → end
 *
 * A handler answers exactly once, by one of request_respond…, request_fail, or http_respond_stream
 * on request->exchange; it may do so at any of its callbacks. `end` comes exactly once, last, and
 * frees what the handler holds; also when the client vanished at any moment before.
 *
 * Thread: the loop of the exchange. Layer: http, run, ns, store. */
#pragma once

#include "api/access.h"
#include "api/refusals.h"
#include "http/http.h"
#include "http/query.h"
#include "run/run.h"

#include <jansson.h>

struct api_limits {
    uint64_t upload_bytes_max; /* of a request body that is stored */
    uint64_t module_bytes_max;
};

/* What all loops share. Made by main, constant while the server runs. */
#define API_SWEPT_SIZE 1024
struct api {
    struct engine *engine;
    struct catalog *catalog;
    struct runs *runs;
    struct applog_set *logs;
    struct access access;
    struct access web_access; /* the same for the listener of the web door alone */
    struct refusals refusals; /* of /create */
    struct api_limits limits;
    struct file *root;         /* of the tree as the control door sees it: apps, proc, vol */
    struct ns *tree;           /* a namespace of that root */
    atomic_bool ready;         /* /healthz: 200 once set */
    atomic_bool shutting_down; /* new work is refused with 503 */
    uint64_t started_ns;       /* monotonic */
    /* Hashes of directories that have no leftovers of PUT; a cache that may forget (tree.h). */
    atomic_uint_fast64_t swept[API_SWEPT_SIZE];
    atomic_uint_fast64_t requests;
    /* Of these, not let in (401, 403, 421), or what nothing is there for: refused by no handler. */
    atomic_uint_fast64_t refused_access, refused_requests;
    atomic_uint_fast64_t forms_bytes; /* in memory, of forms that are on their way (run_form.h) */
    atomic_uint_fast64_t
        gathered_bytes; /* in memory, of uploads that come slowly (tree_put_body.c) */
    struct loop *const *loops;
    size_t loop_count;
    struct http_server *const *servers; /* one a loop and door; read by /metrics */
    size_t server_count;
    struct services *services;
};

/* What the client wants to read, by its Accept header (RFC 9110 section 12.5.1). */
enum request_accept {
    ACCEPT_TEXT, /* anything, or nothing said: our default form */
    ACCEPT_JSON,
    ACCEPT_NDJSON,
    ACCEPT_TAR,
};

struct request;

struct request_handler {
    /* The head is complete and the query parsed. */
    void (*start)(struct request *request);
    /* A piece of the body; returns how much was taken (http.h). NULL: a body is read and dropped.
     */
    size_t (*body)(struct request *request, const uint8_t *data, size_t length);
    /* May be NULL. */
    void (*body_end)(struct request *request);
    /* request->op woke. May be NULL if the op is never used. */
    void (*step)(struct request *request);
    /* A failure is about to be answered: to be counted before the client can know. May be NULL. */
    void (*failing)(struct request *request, int status);
    /* Free request->state and whatever it holds; the op is abandoned already. May be NULL. */
    void (*end)(struct request *request, bool completed);
};

enum route_role {
    ROLE_PUBLIC,  /* no token needed: /healthz */
    ROLE_CONTROL, /* the control door */
    ROLE_WEB,     /* the web door: what the app's `web` says; nothing of the request is parsed but
                     its path */
};

struct route {
    const char *method; /* "*": any */
    const char *path;   /* "/run", or with a trailing "*" everything below: "/apps*" */
    const struct request_handler *handler;
    enum route_role role;
    const char *usage; /* "POST /run?name=NAME[&arg=A]…": as shown by GET / and docs/http.md */
    const char *help;  /* one line */
};
extern const struct route routes[];
extern const size_t route_count;

struct request {
    struct api *api;
    struct http_exchange *exchange;
    struct loop *loop;
    const struct route *route;
    struct buf path; /* decoded, valid UTF-8, begins with '/' */
    struct query query;
    struct who who;
    struct traceparent
        traceparent;       /* who.traceparent points here, once request_join_trace was called */
    struct buf tracestate; /* likewise who.tracestate */
    enum request_accept accept;
    unsigned retry_after_s; /* what a 503 says; 0 = a second */
    const char *allow;      /* what a 405 says; NULL = what the path has besides */
    struct op op;           /* of the handler's operation under way; for nobody else */
    void *state;            /* the handler's */
    struct buf message;     /* for the text of an error */
    bool responded;
    bool keeps_body; /* the handler gets it also after the response has begun, see http_keep_body */
    bool refused;    /* was answered before a handler had it */
    bool is_web_only;    /* it came to the listener of the web door */
    struct str web_host; /* what its Host has before ".localhost" or ".DOMAIN"; data NULL if its
                            Host is none of an app */
};

/* The callbacks for http_server_new; `context` is the api. Once, when the api is filled. */
struct http_application api_application(struct api *api);
/* The same for a listener that has the web door only. */
struct http_application api_web_application(struct api *api);

/* Answers. All set `responded`. */
void request_respond_text(struct request *request, int status, struct str text);
/* Takes over `json`. */
void request_respond_json(struct request *request, int status, json_t *json);
void request_respond_empty(struct request *request, int status);
/* One line, "error: …", or application/problem+json (RFC 9457) for clients that accept JSON. The
 * status is the error's; the text is `message` if it has one (request->message may be passed), else
 * the error's own. */
void request_fail(struct request *request, enum err err, const struct buf *message);
/* The same with a status of its own. Its name is that of the error which the status is usually of;
 * "refused" for one that no error has (412, 416, 421, ...). */
void request_fail_status(struct request *request, int status, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* `TE: trailers` (RFC 9110 section 10.1.4): the client reads fields behind the body. */
bool request_accepts_trailers(const struct request *request);

/* The trace that the request's header `traceparent` names, if it is valid, is that of what is done
 * for it from now on (request->who.traceparent, and `tracestate`). */
void request_join_trace(struct request *request);

/* The second component of the path: the app of "/apps/NAME/...". */
struct str request_second_component(const struct request *request);
/* That app as the request's owner sees it, a reference; answers 404 and returns false if there is
 * none. */
bool request_find_app(struct request *request, struct app **ret_app);

/* Query parameters. */
struct str request_parameter(const struct request *request, const char *name);
bool request_has_parameter(const struct request *request, const char *name);
/* Fails the request and returns false if a parameter is given that is not among `allowed` (a
 * NULL-terminated list); names the nearest one. */
bool request_check_parameters(struct request *request, const char *const *allowed);
/* The same for one name that is not among `allowed`. */
void request_fail_unknown_parameter(struct request *request, struct str name,
                                    const char *const *allowed);

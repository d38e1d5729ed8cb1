/* What the files of the web door share: a request to an app's own pages, from its host name or path
 * to the file or program that answers it. Nobody else includes this.
 *
 *   web.c              which app, whether the client may, what answers
 *   web_static.c       files below /www
 *   web_cgi.c          a program, started for this request (serve=cgi)
 *   web_serve.c        a program that is kept (serve=listen)
 *   web_forward.c      what it is told of the request
 *   web_document.c     what a program answers
 *   cgi_environment.c  what it is told of the request
 *   cgi_response.c     what it answers
 *   web_fields.c       which fields of that reach the visitor
 *
 * Thread: the loop of the exchange. */
#pragma once

#include "api/api.h"
#include "api/cgi_response.h"
#include "api/file_answer.h"
#include "api/tree.h"
#include "api/upload.h"
#include "dev/service.h"
#include "http/http_body.h"

/* Of a program that redirects locally to a page that does the same. */
#define WEB_REDIRECTS_MAX 5
/* After so long in which a program has taken nothing of a body, its answer does not wait for it. */
#define WEB_STALL_NS NS_PER_S

/* --- web_static.c --- */

struct web_static {
    enum {
        STATIC_DIRECTORY, /* /www itself */
        STATIC_PATH,
        STATIC_STAT,
        STATIC_INDEX, /* index.html of a directory */
        STATIC_OPEN,
        STATIC_STAT_OPENED,
        STATIC_ANSWERED,
    } stage;
    bool is_walked_to; /* /www */
    struct tree_walk tree_walk;
    struct ns *pages; /* with /www as its root, which nothing leads out of */
    struct ns_walk walk;
    struct ns_walk_result found;
    bool is_index; /* what was found is a directory's */
    struct file_stat stat;
    struct file *opened;
    struct file_answer answer;
    struct buf path; /* that is walked */
};

/* --- web_document.c --- */

struct web;
struct web_document {
    const char *name; /* for the log */
    /* A piece of the answer. PENDING: the op is woken. OK with 0 bytes: its end. Else it was cut,
     * or there is no memory. */
    enum err (*read)(struct web *web, void *data, size_t size, size_t *ret_length);
    /* All has come before anything was answered, or it was cut with this error. */
    void (*ended)(struct web *web, enum err err);
    /* All that its Content-Length promised was taken of an answer that streams; more of the body
     * was there (`has_more`) or may come: it is dropped, and logged once. */
    void (*length_reached)(struct web *web, bool has_more);
    const char *why[2]; /* by `read`, when it fails: a sentence for the log, and NULL or more */
    struct cgi_response response;
    size_t body_sent;        /* of what is in the response's memory */
    uint64_t body_remaining; /* of a length that the program has given; else UINT64_MAX */
    bool is_held;            /* nothing may be answered yet, unless all is here */
    bool talks;              /* it is answered while the program goes on to get the body */
    bool is_pulled, waits;   /* the response streams; its pull waits for the op */
};

/* --- web_cgi.c --- */

struct cgi {
    struct run *run;
    struct run_reader reader;
    bool input_ended; /* the program reads no more: the rest of the body is dropped */
    bool body_waits;  /* a piece of the body found no room */
    bool has_ended;   /* the end of its output was seen */
    bool is_spooled;  /* the body had no length: it is gathered first */
    struct upload spool;
    struct op feed;       /* that gives the body to the program: the request's has the output */
    bool has_feed, feeds; /* it is made; the program has not taken all of the gathered body */
    uint64_t fed;         /* up to where it was read */
    struct buf feeding;   /* that was read and not yet taken */
    size_t feeding_taken; /* of it */
};

/* --- web_serve.c --- */

struct web_serve {
    struct web *web;
    struct serve_request *request; /* a reference */
    struct loop_timer timer;       /* for the answer's head, while nothing of the body is to come */
    uint64_t gathered;             /* bytes of the body that were handed on */
    bool body_waits;               /* a piece of the body found no room */
    bool is_ripe, has_left;
    /* Of an answer by a connection, once its head is complete: */
    enum { FRAME_UNKNOWN, FRAME_LENGTH, FRAME_CHUNKS, FRAME_CLOSE, FRAME_OVER } frame;
    struct http_body chunks;
    uint64_t remaining;
};

/* --- one request --- */

struct web {
    struct request *request;
    struct app *app;
    bool is_by_host;                /* NAME.localhost: an origin of its own */
    struct str script_name;         /* "/web/NAME", or empty */
    struct str path_info;           /* decoded */
    struct str raw_path, raw_query; /* as sent, or as redirected to */
    struct str method;
    struct buf redirected, redirected_raw; /* what those point into after a local redirect */
    unsigned redirects;
    bool has_body;   /* of which the program gets to know */
    bool body_ended; /* all of the request has come */
    bool body_waits; /* a piece of the body came before anybody wanted it */
    uint64_t run_id; /* the run that answers; 0 = none yet */
    enum { WEB_STATIC, WEB_CGI, WEB_SERVE, WEB_DONE } stage;
    struct web_static pages;
    struct cgi cgi;
    struct web_document document;
    struct web_serve *serve; /* owned */
    struct loop_timer stall; /* while the program does not take the body; else zero or stopped */
};

/* The headers that every answer of the door has. */
MUST_USE enum err web_add_headers(struct web *web);
/* Redirects the client to a page of the app, with a slash at its end. */
MUST_USE enum err web_send_to(struct web *web, int status, struct str path_info);
/* Answers a failure; strangers learn nothing but the number of the run, if there is one. */
void web_fail(struct web *web, int status, const char *sentence);
/* Begins anew with what a program has redirected to. False if that is no page of this app, or there
 * were too many. */
bool web_redirect(struct web *web, const char *location);
/* Writes to the app's log what went wrong, with the request's line. */
void web_log(struct web *web, const char *format, ...) PRINTF_LIKE(2, 3);
/* Appends such a line, for who writes it later. */
MUST_USE enum err web_log_line(const struct web *web, const char *sentence, struct buf *ret_line);

/* Polled. OK: answered. NOENT: there is no such file. */
MUST_USE enum err web_static_step(struct web *web);
void web_static_done(struct web *web);

/* Polled: goes on with the answer until it is given. For `step` while it is not. */
void web_document_step(struct web *web);
/* All of it has been read, by `ended`. */
void web_document_finish(struct web *web);
/* For `step` once it streams. */
void web_document_woken(struct web *web);
/* It is no valid answer. */
void web_document_fail(struct web *web, const char *why);
/* Of one that is held: there is so much that no more is read. */
bool web_document_is_full(const struct web_document *document);
void web_document_done(struct web_document *document);

void web_cgi_start(struct web *web);
size_t web_cgi_body(struct web *web, const uint8_t *data, size_t length);
/* Nothing of the body was taken for WEB_STALL_NS; called again after as long. */
void web_cgi_stalled(struct web *web);
void web_cgi_body_end(struct web *web);
void web_cgi_step(struct web *web);
void web_cgi_done(struct web *web);

void web_serve_start(struct web *web);
size_t web_serve_body(struct web *web, const uint8_t *data, size_t length);
void web_serve_stalled(struct web *web);
void web_serve_body_end(struct web *web);
void web_serve_step(struct web *web);
void web_serve_done(struct web *web);

/* --- web_forward.c --- */

/* Whether the client's Connection names this field, which is between it and us then (RFC 9110
 * section 7.6.1). Not Host, which every request has. */
bool web_is_of_connection(const struct web *web, struct str name);

/* Appends path and query as the program sees them. */
MUST_USE enum err web_forward_target(const struct web *web, struct buf *target);
/* Appends the fields, "NAME: VALUE" CR LF each, but Content-Length. */
MUST_USE enum err web_forward_fields(const struct web *web, struct buf *fields);

/* --- cgi_environment.c --- */

#define CGI_VARIABLES_MAX 128
struct cgi_environment {
    char *text; /* variables, "KEY=VALUE" with a NUL each, none of them twice */
    size_t length, capacity;
    uint32_t count;
    char usual[4096]; /* so much of `text` needs no memory of its own */
};
/* The meta-variables of RFC 3875 section 4.1. `length` of the body, if there is one. */
MUST_USE enum err cgi_environment_build(const struct web *web, uint64_t length,
                                        struct cgi_environment *ret_environment);
void cgi_environment_done(struct cgi_environment *environment);

/* The HTTP client of the commands, by libcurl.
 *
 * A failure is said on standard error by the function that reports it ("false"), in one line with
 * control characters escaped; the caller only goes on or gives up. Connections are kept for the
 * next request. Thread: the only one. Layer: base. */
#pragma once

#include "base/buf.h"

#include <curl/curl.h>

#define CLIENT_LENGTH_UNKNOWN UINT64_MAX
#define CLIENT_DEFAULT_SERVER "http://127.0.0.1:8080"

struct client_response {
    long status;     /* 0: there was none */
    uint64_t length; /* of the content, or CLIENT_LENGTH_UNKNOWN */
    char content_type[64];
    char run_id[24]; /* header Run-Id, or "" */
    bool accepts_ranges;
};
/* Whether a GET or HEAD that accepts application/json met a directory of the tree: only those are
 * answered as JSON without ranges. */
bool client_response_is_directory(const struct client_response *response);

/* Reading and writing return what is not SIZE_MAX to go on; SIZE_MAX after saying why not. */
/* A file that is sent in a form (multipart/form-data). */
struct client_file {
    struct str field; /* the field's name */
    const char *path; /* of a file here */
};

struct client_request {
    const char *method;
    const char *target;      /* path and query, encoded */
    const char *accept;      /* NULL: anything */
    const char *destination; /* the header of MOVE, or NULL */

    /* The body: `data` if it is not NULL, else what `read` gives until 0, else none. */
    const void *data;
    uint64_t length; /* or CLIENT_LENGTH_UNKNOWN */
    size_t (*read)(void *context, char *data, size_t size);
    void *read_context;
    /* If there are any, the body is a form of these; `data`, of at most `length` bytes, is its
     * field `stdin`. */
    const struct client_file *files;
    size_t file_count;
    const char *progress; /* "uploading x": shown at a terminal while the body goes out */

    /* The answer's content, if the status is 2xx: to `write`, or appended to `gather` (16 MiB at
     * most), or dropped. `write` returning false ends the transfer, which has then failed without
     * another word. */
    bool (*write)(void *context, const struct client_response *response, const char *data,
                  size_t length);
    void *write_context;
    struct buf *gather;

    bool quiet;          /* a status of 400 or more is returned without a word */
    unsigned timeout_ms; /* for all of it; 0: none */
};

/* For `read`: standard input. */
size_t client_read_input(void *context, char *data, size_t size);

struct client;
/* `server` is --server or NULL: then $ZASM_SERVER, then the default. The token is $ZASM_TOKEN.
 * NULL after saying what is wrong. */
struct client *client_new(const char *server);
void client_free(struct client *client); /* accepts NULL */
/* Without a slash at its end. */
const char *client_server(const struct client *client);

/* Does a request. True if the status is 2xx and the content came whole. `ret_response` is filled in
 * any case; it may be NULL. */
MUST_USE bool client_perform(struct client *client, const struct client_request *request,
                             struct client_response *ret_response);

/* GET of a short answer, appended to `ret_content`. */
MUST_USE bool client_get(struct client *client, const char *target, const char *accept,
                         struct buf *ret_content);

/* The same in parts, for several requests at once by a multi handle. */
struct client_transfer {
    const struct client_request *request; /* borrowed, until client_transfer_done */
    struct client *client;
    CURL *curl; /* owned */
    struct curl_slist *headers;
    curl_mime *form;
    struct client_response response;
    struct buf failure; /* the content of an answer that is an error */
    uint64_t sent;      /* of `data` */
    bool stopped;       /* by a callback, which has said why */
    bool progress_shown;
    char curl_error[CURL_ERROR_SIZE];
};
MUST_USE bool client_transfer_init(struct client_transfer *transfer, struct client *client,
                                   const struct client_request *request);
/* When libcurl is done with it: as client_perform returns. */
MUST_USE bool client_transfer_finish(struct client_transfer *transfer, CURLcode code);
void client_transfer_done(struct client_transfer *transfer);

/* At a terminal: replaces the line of progress; an empty text removes it. */
void client_show_progress(const char *format, ...) PRINTF_LIKE(1, 2);

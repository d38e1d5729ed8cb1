/* The beginning of what a CGI program prints: its header fields (RFC 3875 section 6), taken piece
 * by piece as it is written.
 *
 * A head is lines of NAME: VALUE, ended by LF or CR LF, then an empty line; one of the fields is
 * Content-Type, Location or Status, as the RFC demands. Output whose beginning is not of this form,
 * or has none of the three, is no CGI response but text: so any program that prints is a web page.
 * A head that has one of the three and is then malformed is broken: nothing of it is believed.
 * Where that is allowed, a head may begin with a status line of HTTP/1.0 or 1.1 in place of Status;
 * then it needs none of the three. With a Transfer-Encoding it is broken, too: the body is what is
 * written, and its chunks would be delivered as text. What has a version and a digit there is meant
 * as a status line, and broken if it is malformed.
 *
 * The same fields are understood of a server's response (RFC 9112), where everything but such a
 * head is broken, and those of the connection say how the body is sent.
 *
 * Passed on are all fields but those that concern the connection (Connection, Transfer-Encoding,
 * ...), those that are the server's own (Date, X-Content-Type-Options), and X-CGI-*. Nothing of the
 * head is changed before it is known to be one. Pure, no connection. Thread: the owner's.
 * Layer: http (for what a field may have). */
#pragma once

#include "base/buf.h"

/* Of a head: less than half of what the head of a response has room for (HTTP_HEAD_ROOM). */
#define CGI_HEAD_BYTES_MAX (16 * 1024)
#define CGI_FIELDS_MAX 64

enum cgi_state {
    CGI_HEAD,     /* the head is not complete */
    CGI_DOCUMENT, /* it is, and the following holds */
    CGI_TEXT,     /* there is no head: all of it is the body */
    CGI_BROKEN,   /* `broken` says why */
};

struct cgi_response {
    /* Set by the caller: */
    bool takes_status_line; /* "HTTP/1.1 200 OK" may be its first line */
    bool is_http;           /* it must be; what comes before with a status of 1xx is passed over */

    enum cgi_state state;
    const char *broken; /* static */
    /* Once it is a document: */
    int status;             /* 200 to 599; what RFC 3875 says where none is given */
    bool is_local_redirect; /* Location is a path: answer as if that had been asked for
                               (section 6.2.2) */
    bool has_length;        /* one Content-Length, and valid */
    uint64_t length;        /* of the body, if has_length */
    bool is_chunked;        /* the body of a server's response */
    bool closes;            /* no other response of the server's follows this one */
    struct buf gathered;    /* all that was taken; more of the body may be appended */
    size_t body_at;         /* where the body begins in it */

    /* The parser's own. Offsets in `gathered`. */
    enum cgi_place {
        CGI_AT_LINE,
        CGI_AT_LINE_CR,
        CGI_IN_NAME,
        CGI_IN_VALUE,
        CGI_AT_VALUE_CR,
        CGI_IN_STATUS_LINE
    } place;
    size_t scanned, name_at, value_at;
    size_t type_at, location_at; /* 0: not given */
    size_t field_count;
    struct cgi_field {
        uint16_t name, name_length, value, value_length;
        bool is_passed; /* to the client, by cgi_response_field */
    } * fields;
    bool has_cgi_field, has_status, has_status_line, has_location, has_type;
    bool length_is_bad, lengths_differ, is_interim, has_transfer_encoding;
};

/* `response` is zero at first, but for what the caller sets. Takes all of `data`; whatever comes
 * behind the head is in `gathered`. Not to be called any more once `state` is not CGI_HEAD. NOMEM.
 */
MUST_USE enum err cgi_response_take(struct cgi_response *response, const void *data, size_t length);
/* There is no more output: `state` is not CGI_HEAD afterwards. */
void cgi_response_end(struct cgi_response *response);
/* Of a document: NULL if not given. Valid until more is appended, as are the fields. */
const char *cgi_response_type(const struct cgi_response *response);
const char *cgi_response_location(const struct cgi_response *response);
/* The fields to pass on, without Content-Type and Location; `*index` is 0 at first. False at the
 * end. Of a document. */
bool cgi_response_field(const struct cgi_response *response, size_t *index, const char **ret_name,
                        const char **ret_value);
/* Whether a field of an answer concerns the connection, or is the server's own. */
bool cgi_is_kept_back(struct str name);
/* What of the body is there already. Of a document or text. */
struct str cgi_response_body(const struct cgi_response *response);
void cgi_response_done(struct cgi_response *response);

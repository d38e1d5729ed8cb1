/* Forms as `curl -F` and browsers send them: multipart/form-data (RFC 7578, RFC 2046 section 5.1),
 * read as a stream. Nothing of a part's content is kept: it is handed out piece by piece, as it
 * comes.
 *
 * Strict where reading differently would mean something else (line ends, what a boundary's line
 * may have behind it, encodings), lenient where it can't: what stands before the first boundary
 * and behind the last one is passed over.
 *
 * Pure functions, no connection. Thread: the owner's. Layer: base. */
#pragma once

#include "base/buf.h"

enum {
    MULTIPART_BOUNDARY_MAX = 70,   /* bytes (RFC 2046 section 5.1.1) */
    MULTIPART_HEAD_MAX = 8 * 1024, /* bytes of a part's headers */
};

enum multipart_state {
    MULTIPART_PREAMBLE,
    MULTIPART_BOUNDARY_LINE, /* behind a boundary */
    MULTIPART_HEAD,
    MULTIPART_CONTENT,
    MULTIPART_ENDED,
};

/* Zero it, or use multipart_init. */
struct multipart {
    enum multipart_state state;
    char delimiter[4 + MULTIPART_BOUNDARY_MAX]; /* the line's end before it, "--", the boundary */
    size_t delimiter_length;
    size_t matched;     /* bytes of the delimiter that were read and may turn out to be content */
    uint8_t line_state; /* on a boundary's line */
    bool is_closing;    /* a part ends with this boundary */
    bool is_named;      /* its head has said the part's name */
    size_t head_length; /* bytes of the head so far */
    struct buf line;    /* of the head */
    struct buf name;    /* of the part: the field's name, UTF-8 without control characters */
};

enum multipart_event {
    MULTIPART_MORE,     /* all input was taken */
    MULTIPART_PART,     /* a part begins: multipart->name */
    MULTIPART_DATA,     /* a piece of its content */
    MULTIPART_PART_END, /* its content is complete */
    MULTIPART_END,      /* the last boundary was read; all input is taken from now on */
};

/* `content_type` is the header's value. INVAL with a sentence for humans: it is not
 * multipart/form-data, or has no boundary. */
MUST_USE enum err multipart_init(struct multipart *multipart, struct str content_type,
                                 struct buf *message);
void multipart_done(struct multipart *multipart);
/* Whether a Content-Type is that of a form. */
bool multipart_is_form(struct str content_type);
/* The next event. What was read is cut off from the beginning of `*input`; `*ret_data` of
 * MULTIPART_DATA (not empty) is valid until the next call. INVAL with a sentence: it is no form;
 * NOMEM. */
MUST_USE enum err multipart_next(struct multipart *multipart, struct str *input,
                                 enum multipart_event *ret_event, struct str *ret_data,
                                 struct buf *message);

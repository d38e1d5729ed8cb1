/* One enumeration of errors for the whole system.
 *
 * The numbers are those of WASI preview 1's `errno` (witx: typenames.witx, $errno), so that the
 * guest's door needs no translation; each has the HTTP status (RFC 9110) that the outside door
 * answers. Two values are no errors and never reach a client or a guest: ERR_PENDING says that an
 * operation is on its way (see loop/op.h), ERR_EXIT that a guest has called proc_exit.
 *
 * Context for humans does not travel in here: api, cli and configuration code use a
 * caller-owned `struct buf` for it. Thread: any. */
#pragma once

#include "base/macros.h"

/* clang-format off */
/*       name             WASI  HTTP  text */
#define ERR_LIST(X)                                                        \
    X(OK,                    0,  200, "no error")                          \
    X(2BIG,                  1,  413, "argument list too long")            \
    X(ACCES,                 2,  403, "permission denied")                 \
    X(ADDRINUSE,             3,  409, "address in use")                    \
    X(ADDRNOTAVAIL,          4,  502, "address not available")             \
    X(AFNOSUPPORT,           5,  501, "address family not supported")      \
    X(AGAIN,                 6,  503, "would have to wait, try again")     \
    X(ALREADY,               7,  409, "already in progress")               \
    X(BADF,                  8,  400, "bad file descriptor")               \
    X(BADMSG,                9,  400, "bad message")                       \
    X(BUSY,                 10,  409, "busy")                              \
    X(CANCELED,             11,  409, "canceled")                          \
    X(CHILD,                12,  404, "no such run")                       \
    X(CONNABORTED,          13,  502, "connection aborted")                \
    X(CONNREFUSED,          14,  502, "connection refused")                \
    X(CONNRESET,            15,  502, "connection reset")                  \
    X(DEADLK,               16,  508, "would deadlock")                    \
    X(DESTADDRREQ,          17,  400, "destination address required")      \
    X(DOM,                  18,  400, "argument out of domain")            \
    X(DQUOT,                19,  507, "quota exceeded")                    \
    X(EXIST,                20,  409, "exists already")                    \
    X(FAULT,                21,  400, "bad address")                       \
    X(FBIG,                 22,  413, "file too large")                    \
    X(HOSTUNREACH,          23,  502, "host unreachable")                  \
    X(IDRM,                 24,  410, "identifier removed")                \
    X(ILSEQ,                25,  400, "not valid UTF-8")                   \
    X(INPROGRESS,           26,  409, "in progress")                       \
    X(INTR,                 27,  503, "interrupted")                       \
    X(INVAL,                28,  400, "invalid argument")                  \
    X(IO,                   29,  500, "input/output error")                \
    X(ISCONN,               30,  409, "connected already")                 \
    X(ISDIR,                31,  409, "is a directory")                    \
    X(LOOP,                 32,  400, "too many symbolic links")           \
    X(MFILE,                33,  503, "too many open files")               \
    X(MLINK,                34,  409, "too many links")                    \
    X(MSGSIZE,              35,  413, "message too large")                 \
    X(MULTIHOP,             36,  400, "multihop")                          \
    X(NAMETOOLONG,          37,  414, "name too long")                     \
    X(NETDOWN,              38,  502, "network down")                      \
    X(NETRESET,             39,  502, "connection reset by network")       \
    X(NETUNREACH,           40,  502, "network unreachable")               \
    X(NFILE,                41,  503, "too many open files")               \
    X(NOBUFS,               42,  503, "no buffer space")                   \
    X(NODEV,                43,  404, "no such device")                    \
    X(NOENT,                44,  404, "no such file or directory")         \
    X(NOEXEC,               45,  422, "not an executable module")          \
    X(NOLCK,                46,  503, "no locks available")                \
    X(NOLINK,               47,  502, "link severed")                      \
    X(NOMEM,                48,  503, "out of memory")                     \
    X(NOMSG,                49,  404, "no message")                        \
    X(NOPROTOOPT,           50,  501, "protocol not available")            \
    X(NOSPC,                51,  507, "no space left")                     \
    X(NOSYS,                52,  501, "not implemented")                   \
    X(NOTCONN,              53,  409, "not connected")                     \
    X(NOTDIR,               54,  409, "not a directory")                   \
    X(NOTEMPTY,             55,  409, "directory not empty")               \
    X(NOTRECOVERABLE,       56,  500, "state not recoverable")             \
    X(NOTSOCK,              57,  400, "not a socket")                      \
    X(NOTSUP,               58,  405, "not supported")                     \
    X(NOTTY,                59,  400, "not a terminal")                    \
    X(NXIO,                 60,  404, "no such device or address")         \
    X(OVERFLOW,             61,  400, "value too large")                   \
    X(OWNERDEAD,            62,  500, "owner died")                        \
    X(PERM,                 63,  403, "not permitted")                     \
    X(PIPE,                 64,  409, "broken pipe")                       \
    X(PROTO,                65,  502, "protocol error")                    \
    X(PROTONOSUPPORT,       66,  501, "protocol not supported")            \
    X(PROTOTYPE,            67,  400, "wrong protocol type")               \
    X(RANGE,                68,  400, "result too large")                  \
    X(ROFS,                 69,  403, "read-only file system")             \
    X(SPIPE,                70,  400, "illegal seek")                      \
    X(SRCH,                 71,  404, "no such run")                       \
    X(STALE,                72,  410, "stale file handle")                 \
    X(TIMEDOUT,             73,  504, "timed out")                         \
    X(TXTBSY,               74,  409, "text file busy")                    \
    X(XDEV,                 75,  409, "crosses a device boundary")         \
    X(NOTCAPABLE,           76,  403, "capability insufficient")           \
    X(PENDING,             256,  500, "pending")                           \
    X(EXIT,                257,  500, "exit")
/* clang-format on */

enum err {
#define ERR_ENUM(name, number, http_status, text) ERR_##name = number,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
};

/* The text of an error, for the end of a sentence. Never NULL; static. */
const char *err_text(enum err err);

/* Its symbolic name in lower case as WASI spells it ("noent"). Never NULL; static. */
const char *err_name(enum err err);

/* The HTTP status of an error: 200 for OK, 4xx for the caller's fault, 5xx for ours. */
int err_http_status(enum err err);

/* The error for an `errno` of the host, IO for those that WASI does not know. */
enum err err_from_errno(int host_errno);

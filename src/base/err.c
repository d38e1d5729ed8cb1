#include "base/err.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>

enum { NAME_SIZE = 16 };

/* Every value has a row of its own, so that the tables below can be indexed by a dense number. */
enum row {
#define ROW(name, number, http_status, text) ROW_##name,
    ERR_LIST(ROW)
#undef ROW
        ROW_COUNT
};

static const struct {
    char name[NAME_SIZE];
    int http_status;
    const char *text;
} rows[ROW_COUNT] = {
#define ROW(name, number, http_status, text) [ROW_##name] = {#name, http_status, text},
    ERR_LIST(ROW)
#undef ROW
};

static char lower_names[ROW_COUNT][NAME_SIZE];
static pthread_once_t lower_names_once = PTHREAD_ONCE_INIT;

static enum row row_of(enum err err) {
    switch (err) {
#define ROW(name, number, http_status, text)                                                       \
    case ERR_##name:                                                                               \
        return ROW_##name;
        ERR_LIST(ROW)
#undef ROW
    }
    return ROW_IO; /* a number that is none of ours */
}

const char *err_text(enum err err) {
    return rows[row_of(err)].text;
}

static void make_lower_names(void) {
    for (size_t row = 0; row < ROW_COUNT; row++) {
        for (size_t i = 0; rows[row].name[i]; i++) {
            lower_names[row][i] = (char)tolower((unsigned char)rows[row].name[i]);
        }
    }
}

const char *err_name(enum err err) {
    if (err == ERR_OK) {
        return "success"; /* the one that WASI calls otherwise */
    }
    pthread_once(&lower_names_once, make_lower_names);
    return lower_names[row_of(err)];
}

int err_http_status(enum err err) {
    return rows[row_of(err)].http_status;
}

/* clang-format off */
/* What Linux has under the same name. */
#define SAME_NAMES(X)                                                                              \
    X(ACCES) X(ADDRINUSE) X(ADDRNOTAVAIL) X(AFNOSUPPORT) X(AGAIN) X(ALREADY) X(BADF) X(BADMSG)     \
    X(BUSY) X(CANCELED) X(CHILD) X(CONNABORTED) X(CONNREFUSED) X(CONNRESET) X(DEADLK)              \
    X(DESTADDRREQ) X(DOM) X(DQUOT) X(EXIST) X(FAULT) X(FBIG) X(HOSTUNREACH) X(IDRM) X(ILSEQ)       \
    X(INPROGRESS) X(INTR) X(INVAL) X(IO) X(ISCONN) X(ISDIR) X(LOOP) X(MFILE) X(MLINK) X(MSGSIZE)   \
    X(MULTIHOP) X(NAMETOOLONG) X(NETDOWN) X(NETRESET) X(NETUNREACH) X(NFILE) X(NOBUFS) X(NODEV)    \
    X(NOENT) X(NOEXEC) X(NOLCK) X(NOLINK) X(NOMEM) X(NOMSG) X(NOPROTOOPT) X(NOSPC) X(NOSYS)        \
    X(NOTCONN) X(NOTDIR) X(NOTEMPTY) X(NOTRECOVERABLE) X(NOTSOCK) X(NOTSUP) X(NOTTY) X(NXIO)       \
    X(OVERFLOW) X(OWNERDEAD) X(PERM) X(PIPE) X(PROTO) X(PROTONOSUPPORT) X(PROTOTYPE) X(RANGE)      \
    X(ROFS) X(SPIPE) X(SRCH) X(STALE) X(TIMEDOUT) X(TXTBSY) X(XDEV)
/* clang-format on */

enum err err_from_errno(int host_errno) {
    switch (host_errno) {
    case 0:
        return ERR_OK;
    case E2BIG:
        return ERR_2BIG;
#define SAME(name)                                                                                 \
    case E##name:                                                                                  \
        return ERR_##name;
        SAME_NAMES(SAME)
#undef SAME
    default:
        return ERR_IO;
    }
}

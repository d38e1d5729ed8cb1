/* A file as the answer of a GET or HEAD: whole, a range of it (RFC 9110 section 14), 304 for a
 * client that has it, or 412 for one that expected another (section 13). Shared by the tree door
 * and the files of web pages.
 *
 * Thread: the loop of the exchange. Layer: ns, http. */
#pragma once

#include "api/api.h"

/* Lives in the handler's state, zero at first. Uses request->op. */
struct file_answer {
    struct request *request;
    struct file *opened;        /* borrowed */
    uint64_t offset, remaining; /* of what is still to be sent; remaining UINT64_MAX: to the end */
    bool waiting;               /* the pull waits for the op */
    bool is_cut;                /* not all that was promised could be sent: it can't be read, or
                                   (failure is OK) has become shorter */
    enum err failure;
};
/* Answers with `opened`, whose `stat` this is; headers may have been added. `has_times`: with
 * Last-Modified, and asks whoever stores it to come back and ask (Cache-Control: no-cache). */
void file_answer(struct file_answer *answer, struct request *request, struct file *opened,
                 const struct file_stat *stat, const char *content_type, bool has_times);
/* request->op woke. Harmless on one that is zero. */
void file_answer_step(struct file_answer *answer);

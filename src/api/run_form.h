/* The body of a POST /run that is a form (multipart/form-data, as `curl -F` sends it): options of
 * the run as fields, files at their paths, standard input.
 *
 *   a name that begins with '/'    a file at that path in the run's tree
 *   stdin                          standard input
 *   any parameter of /run          as in the query; fields and the query may be mixed
 *
 * Files and standard input go to memory as they come, under the limit that the run's own layer has;
 * nothing else is kept of the body but the options. The run is started when the body is whole: what
 * ends early, or is wrong, leaves nothing behind.
 *
 * Thread: the loop of the exchange. Layer: http, ns. */
#pragma once

#include "api/api.h"

enum {
    RUN_FORM_PARTS_MAX = 10000,
    RUN_FORM_OPTIONS_BYTES_MAX = 1024 * 1024, /* names and values of all fields that are options */
    RUN_FORM_DEPTH_MAX = 64,                  /* components of a path */
    RUN_FORM_PATH_MAX = 4096,                 /* bytes of one */
};
/* Of all forms that are on their way. */
#define RUN_FORMS_BYTES_MAX ((uint64_t)1 << 30)

/* What is wrong with a path as that of a file that a run is to see, or NULL. It begins with a
 * slash. */
const char *run_form_path_fault(struct str path);

struct run_form;

/* Whether the request's body is a form. */
bool run_form_is_wanted(const struct request *request);
/* `parameters`: the names of all options, a list that ends with NULL; static. NULL: the request was
 * answered. */
struct run_form *run_form_new(struct request *request, const char *const *parameters);
/* A piece of the body, which is taken whole. False: the request was answered. */
bool run_form_body(struct run_form *form, const uint8_t *data, size_t length);
/* The body is complete: its options are in request->query now. False: the request was answered. */
bool run_form_end(struct run_form *form);
/* The root of the files, or NULL if there are none; and the file that is standard input, or NULL.
 * Borrowed. */
struct file *run_form_files(const struct run_form *form);
struct file *run_form_input(const struct run_form *form);
/* Lets go of the files and of standard input: who needs them has them. */
void run_form_release(struct run_form *form);
/* After the last use of the request's query. Accepts NULL. */
void run_form_free(struct run_form *form);

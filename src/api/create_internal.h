/* The parts of POST /create (create.c): what they share. */
#pragma once

#include "api/archive.h"
#include "api/first_argument.h"
#include "api/upload.h"

/* In this order, those that an upload does not need left out. */
enum stage {
    STAGE_UPLOAD,
    STAGE_SOURCE,  /* from=: the version whose program it gets */
    STAGE_LOOK,    /* worker: what is it? */
    STAGE_UNPACK,  /* an archive: its files into the layer */
    STAGE_SYNC,    /* the layer's database on disk */
    STAGE_CLOSE,   /* worker: the layer's database closed */
    STAGE_INSPECT, /* worker: refusals, the hash, whether it is compiled already */
    STAGE_COMPILE,
    STAGE_RECORD, /* worker: the hash of the compiled code into the catalog */
    STAGE_APPLY,
    STAGE_ARGUMENT, /* from=: is the file there that it is to run? */
    STAGE_WARM,     /* loads the program, so that the first run does not have to */
    STAGE_DONE,
};

struct create {
    struct request *request;
    struct upload upload;
    enum stage stage;
    /* from=APP[@VERSION]: whose program it gets. */
    struct app *source;                 /* a reference, or NULL */
    uint32_t source_number;             /* 0 = its current version */
    struct app_version *source_version; /* owned, once it is known */
    struct buf file_path;               /* file=/PATH without the slash, or empty */

    json_t *changes;          /* of the configuration, from the query */
    struct buf module_path;   /* where the module is: the upload, or taken out of the archive */
    bool module_is_temporary; /* module_path is a file of its own that has to go */
    struct volume *layer;
    struct buf layer_path;
    bool layer_is_temporary;
    struct unpack *unpack;
    int module_descriptor; /* the archive's module on its way out; -1 = none */
    struct unpack_result unpacked;

    uint64_t module_bytes;
    uint8_t module_sha256[SHA256_SIZE];
    uint8_t compiled_sha256[SHA256_SIZE];
    struct module_report report;
    bool was_compiled; /* the cache had it */
    uint64_t compile_began_ns, compile_took_ns;
    unsigned tries;
    json_t *config; /* merged; owned while STAGE_APPLY is pending, as are the following */
    struct buf offered_module,
        offered_layer; /* second names of the files, which the catalog takes */
    int64_t if_id;
    uint64_t if_generation;
    struct app *app;
    bool created;
    struct first_argument first_argument;
    struct program *program;

    /* NDJSON: progress as events */
    struct buf events;
    bool streaming, pull_waits, events_end;
    struct loop_timer progress_timer;
};

/* create_work.c: what is done on another thread. Polled: the work of the present stage (LOOK,
 * CLOSE, INSPECT, RECORD); what it finds goes into `create`. */
MUST_USE enum err create_work(struct create *create, bool *ret_is_archive);

/* create_from.c: from= and file=. */
/* Looks at the query; answers and returns false if it is wrong. */
MUST_USE bool create_from_begin(struct create *create);
/* The configuration after this update: `old` (may be NULL) with the changes, and what the program
 * of another app may need to work, its environment and memory, where it is not set. The result is a
 * new reference. */
MUST_USE enum err create_merge_config(struct create *create, const json_t *old,
                                      json_t **ret_config);

/* Polled. The version, and where its module is. */
MUST_USE enum err create_source(struct create *create);

/* create_stages.c: one step of the other stages; goes on to the next stage when it is done. Polled.
 */
MUST_USE enum err create_after_source(struct create *create);
MUST_USE enum err create_after_look(struct create *create, bool is_archive);
MUST_USE enum err create_unpack(struct create *create);
/* The layer's database is closed. Goes on to INSPECT. */
void create_after_close(struct create *create);
MUST_USE enum err create_compile(struct create *create);
MUST_USE enum err create_apply(struct create *create);

/* create_answer.c: events while it goes on (NDJSON), and the end in the form that was asked for. */
/* Before everything else. */
void create_answer_init(struct create *create);
/* Begins the stream of events. */
void create_answer_stream(struct create *create);
/* Takes over `event`. */
void create_answer_event(struct create *create, json_t *event);
void create_answer_failure(struct create *create, enum err err);
void create_answer_success(struct create *create);

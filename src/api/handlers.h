/* The handlers that the rows of routes.c name, one or a few a file. */
#pragma once

#include "api/api.h"

extern const struct request_handler run_handler;     /* run.c */
extern const struct request_handler create_handler;  /* create.c */
extern const struct request_handler index_handler;   /* info.c */
extern const struct request_handler health_handler;  /* info.c */
extern const struct request_handler metrics_handler; /* metrics.c */
extern const struct request_handler app_log_handler; /* log.c */
extern const struct request_handler ask_handler;     /* ask.c */
extern const struct request_handler run_log_handler, run_stdout_handler,
    run_stderr_handler;                                                 /* log.c */
extern const struct request_handler proc_end_handler;                   /* proc.c */
extern const struct request_handler web_handler;                        /* web.c */
extern const struct request_handler versions_handler, rollback_handler; /* versions.c */
extern const struct request_handler secrets_list_handler, secret_read_handler, secret_write_handler,
    secret_remove_handler;                           /* secrets.c */
extern const struct request_handler changed_handler; /* run_changes.c */
/* tree.c: the tree door, a handler a verb. */
extern const struct request_handler tree_get_handler, tree_put_handler, tree_delete_handler,
    tree_move_handler;

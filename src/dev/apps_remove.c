/* Removing an app, with its log and the runs that are kept. */
#include "dev/apps_internal.h"

/* Removing an app goes on to its end when its op is given up, so that nothing is left behind. */
struct removal {
    struct op op;
    struct op *owner; /* NULL after it was given up */
    struct who who;   /* a copy: the owner's may go first */
    struct apps *apps;
    int64_t app_id;
    char name[APP_NAME_MAX + 1];
    bool is_starting, is_finished;
    enum err result;
};

struct traces_removal {
    struct op_work base;     /* first */
    struct applog_set *logs; /* may be NULL */
    struct runs *runs;       /* may be NULL */
    int64_t app_id;
};

static void removal_free(struct removal *removal) {
    op_done(&removal->op);
    file_unref(&removal->apps->file);
    free(removal);
}

static void run_traces_removal(struct op_work *work) {
    struct traces_removal *removal = (struct traces_removal *)work;
    if (removal->runs) {
        runs_forget_app(removal->runs, removal->app_id);
    }
    if (removal->logs) {
        applog_remove(removal->logs, removal->app_id);
    }
}

static void release_traces_removal(struct op_work *work) {
    free(work);
}

static enum err remove_traces(struct op *op, const struct apps *apps, int64_t app_id) {
    struct traces_removal *work = op->state;
    if (!work) {
        work = calloc(1, sizeof(*work));
        if (!work) {
            return ERR_NOMEM;
        }
        work->base.run = run_traces_removal;
        work->base.release = release_traces_removal;
        work->logs = apps->logs;
        work->runs = apps->runs;
        work->app_id = app_id;
        return op_work_start(op, &work->base);
    }
    return work->base.finished ? op_finish(op, ERR_OK) : ERR_PENDING;
}

static void removal_step(struct op *op) {
    struct removal *removal = CONTAINER_OF(op, struct removal, op);
    struct apps *apps = removal->apps;
    enum err err = ERR_OK;
    if (removal->result == ERR_PENDING) {
        err = catalog_remove(op, apps->catalog, str_of(removal->name));
        if (err == ERR_PENDING) {
            return;
        }
        removal->result = err;
        apps_files_forget(apps, removal->app_id);
    }
    if (!removal->result && remove_traces(op, apps, removal->app_id) == ERR_PENDING) {
        return;
    }
    removal->is_finished = true;
    if (!removal->owner) {
        removal_free(removal);
    } else if (!removal->is_starting) {
        op_wake(removal->owner);
    }
}

static void drop_removal(struct op *op) {
    struct removal *removal = op->state;
    removal->owner = NULL;
    if (removal->is_finished) {
        removal_free(removal);
    }
}

enum err apps_remove_start(struct op *op, struct apps *apps, const struct app *app) {
    struct removal *removal = calloc(1, sizeof(*removal));
    if (!removal) {
        return ERR_NOMEM;
    }
    removal->who = *op->who;
    removal->app_id = app->id;
    removal->result = ERR_PENDING;
    memcpy(removal->name, app->name, sizeof(removal->name));
    file_ref(&apps->file);
    removal->apps = apps;
    removal->owner = op;
    op_init(&removal->op, op->loop, &removal->who, removal_step);
    op_set_state(op, removal, drop_removal);
    removal->is_starting = true;
    removal_step(&removal->op);
    removal->is_starting = false;
    return ERR_OK;
}

enum err apps_remove_poll(struct op *op) {
    struct removal *removal = op->state;
    return removal->is_finished ? op_finish(op, removal->result) : ERR_PENDING;
}

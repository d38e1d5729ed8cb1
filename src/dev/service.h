/* Programs that are kept for their app's web door (serve=listen): started when first asked for,
 * started again when they end, after delays that grow; more of them while requests wait; the old
 * ones of an app that was changed finish what they have and end.
 *
 * An instance is a run with a listening socket (dev/serve.h), where requests wait for it. Who has a
 * request for it holds it: until service_done it counts as under way, and the instance is not ended
 * for having nothing to do. One whose program leaves a request unanswered for `wall`, and does
 * nothing for any other one meanwhile, is ended. What waits at one goes to another one that has
 * nothing to do.
 *
 * Thread: any; guards itself. An instance belongs to the loop on which it was started: that of the
 * request that needed it. Layer: ns, store, run. */
#pragma once

#include "dev/serve.h"
#include "run/run.h"

struct services;
struct instance;

MUST_USE enum err services_new(struct catalog *catalog, struct runs *runs,
                               struct services **ret_services);
/* All runs have ended and the loops stand still. Accepts NULL. */
void services_free(struct services *services);
/* No new instances; those that are there end as soon as they have answered. */
void services_stop(struct services *services);

/* Why there is no instance now. */
struct service_delay {
    uint64_t retry_ns; /* after which to come back; 0: not known */
    bool never_asked;  /* the last one ended by itself without having asked for a request */
};
/* The instance of the app that has the least to do; one is started if there is none or they have
 * too much: held, for service_done. AGAIN: it has failed and is not started yet again, as
 * `*ret_delay` says. Everything else: it can't be started. The message is for the app's owner.
 * Thread: the loop's. */
MUST_USE enum err service_hold(struct services *services, struct loop *loop, struct app *app,
                               struct instance **ret_instance, struct service_delay *ret_delay,
                               struct buf *message);
/* A request under way is over. */
void service_done(struct instance *instance);
/* The request waits for the instance, and has the caller's hold on it. AGAIN: too many wait. PIPE:
 * it has ended. In both cases the caller still has it. */
MUST_USE enum err service_put(struct instance *instance, struct serve_request *request,
                              struct buf *message);
uint64_t instance_run_id(const struct instance *instance);

/* Lines about the app's instances, for people. */
MUST_USE enum err services_show(struct services *services, const struct app *app,
                                struct buf *ret_text);

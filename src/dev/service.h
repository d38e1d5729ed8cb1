/* Programs that are kept for their app's web door (serve=listen): started when first asked for,
 * started again when they end, after delays that grow; more of them while connections wait; the old
 * ones of an app that was changed finish what they have and end.
 *
 * An instance is a run with a listening socket (dev/serve.h). Each connection is for one request.
 *
 * Thread: any; guards itself. An instance belongs to the loop on which it was started: that of the
 * request that needed it. Layer: ns, store, run. */
#pragma once

#include "run/run.h"

struct services;
struct instance;

MUST_USE enum err services_new(struct catalog *catalog, struct runs *runs,
                               struct services **ret_services);
/* All runs have ended and the loops stand still. Accepts NULL. */
void services_free(struct services *services);
/* No new instances; those that are there end as soon as they have answered. */
void services_stop(struct services *services);

/* Hands `descriptor` (a non-blocking stream socket) to an instance of the app, which is started if
 * there is none or they have too much to do: a reference, for service_done. AGAIN: too many
 * connections wait, or it has failed and is not started yet again: `*ret_retry_ns` is when to come
 * back (0: not known). Everything else: it can't be started. The message is for the app's owner.
 * Only OK takes over the descriptor. Thread: the loop's. */
MUST_USE enum err service_connect(struct services *services, struct loop *loop, struct app *app,
                                  int descriptor, struct instance **ret_instance,
                                  uint64_t *ret_retry_ns, struct buf *message);
/* The request of a connection is over. */
void service_done(struct instance *instance);
uint64_t instance_run_id(const struct instance *instance);

/* Lines about the app's instances, for people. */
MUST_USE enum err services_show(struct services *services, const struct app *app,
                                struct buf *ret_text);

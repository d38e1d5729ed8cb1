/* Transfers of libcurl in an event loop: a multi handle whose sockets and timer are the loop's.
 *
 * The multi handle keeps connections that are free for its next transfers; who must not share
 * connections has a multi of his own. It decides nothing about where a transfer goes: its owner
 * sets up the easy handle (URL, callbacks, CURLOPT_OPENSOCKETFUNCTION for the address, or for one
 * end of a socket pair), and gets it back when it has ended.
 *
 * Callbacks of an easy handle come from inside of libcurl: they may wake ops and copy bytes, but
 * call neither net_multi_add and net_multi_remove nor curl_easy_pause.
 *
 * Thread: the loop's. Layer: loop. Source: libcurl's libcurl-multi(3); notes in the .c file. */
#pragma once

#include "loop/loop.h"

#include <curl/curl.h>

struct net_multi;

/* `kept_max`: free connections that are kept. */
MUST_USE enum err net_multi_new(struct loop *loop, unsigned kept_max, struct net_multi **ret_multi);
/* Closes the kept connections. No transfer may be under way. Accepts NULL. */
void net_multi_free(struct net_multi *multi);
/* Transfers that are under way. */
size_t net_multi_count(const struct net_multi *multi);

/* Embedded in its owner. */
struct net_easy {
    CURL *curl;              /* the owner's, made by net_easy_new, freed by net_easy_free */
    struct net_multi *multi; /* while it is under way */
    /* It has ended, and is under way no more: may free everything. From the loop. */
    void (*done)(struct net_easy *easy, CURLcode result);
};
/* A handle with what all of ours have: http and https only, HTTP/1.1, no proxy and nothing else
 * from the environment, no signals, no redirects followed, no decoding. NOMEM. */
MUST_USE enum err net_easy_new(void (*done)(struct net_easy *easy, CURLcode result),
                               struct net_easy *ret_easy);
/* Gives it up if it is under way. Harmless on one that is zero. */
void net_easy_free(struct net_easy *easy);
/* Sets CURLOPT_CLOSESOCKETFUNCTION and CURLOPT_PRIVATE. `done` is called later, never from here. */
MUST_USE enum err net_multi_add(struct net_multi *multi, struct net_easy *easy);
/* Does now what could be done in the next turn: a transfer that was just added connects. `done` of
 * any transfer may be called from here. */
void net_multi_kick(struct net_multi *multi);
/* Gives it up: closes its connection; `done` is not called. */
void net_multi_remove(struct net_easy *easy);

/* GET /metrics: numbers in the text format of Prometheus, version 0.0.4. */
#include "api/handlers.h"
#include "base/clock.h"
#include "base/resident.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum metric_type { COUNTER, GAUGE };

static enum err add(struct buf *text, const char *name, enum metric_type type, const char *help,
                    uint64_t value) {
    return buf_printf(text, "# HELP zasm_%s %s\n# TYPE zasm_%s %s\nzasm_%s %" PRIu64 "\n", name,
                      help, name, type == COUNTER ? "counter" : "gauge", name, value);
}

static enum err add_runs(struct buf *text, const struct runs_counters *counters) {
    enum err err =
        add(text, "runs_started_total", COUNTER, "Runs whose program began.", counters->started);
    if (!err) {
        err = buf_append_str(text, STR("# HELP zasm_runs_refused_total Runs that were asked for "
                                       "and never began, by reason.\n"
                                       "# TYPE zasm_runs_refused_total counter\n"));
    }
    for (int i = 0; !err && i < RUN_REFUSAL_COUNT; i++) {
        err = buf_printf(text, "zasm_runs_refused_total{reason=\"%s\"} %" PRIu64 "\n",
                         run_refusal_text((enum run_refusal)i), counters->refused[i]);
    }
    if (!err) {
        err = add(text, "runs_running", GAUGE, "Runs under way.", counters->running);
    }
    if (!err) {
        err = add(text, "runs_queued", GAUGE, "Runs that wait for their turn.", counters->queued);
    }
    if (!err) {
        err = add(text, "runs_kept", GAUGE, "Ended runs that can still be looked at.",
                  counters->kept);
    }
    if (!err) {
        err = buf_append_str(text, STR("# HELP zasm_runs_ended_total Runs that ended, by reason.\n"
                                       "# TYPE zasm_runs_ended_total counter\n"));
    }
    for (int reason = RUN_REASON_EXIT; !err && reason <= RUN_REASON_FAILED; reason++) {
        err =
            buf_printf(text, "zasm_runs_ended_total{reason=\"%s\"} %" PRIu64 "\n",
                       run_reason_text((enum run_reason)reason), counters->ended_by_reason[reason]);
    }
    return err;
}

/* Buckets count what is below their end, as Prometheus wants them. */
static enum err add_times(struct buf *text, struct runs *runs) {
    static const struct {
        const char *name, *help;
    } rows[RUN_TIME_COUNT] = {
        [RUN_TIME_QUEUE] = {"run_queue_seconds", "From a request until its run was admitted."},
        [RUN_TIME_START] = {"run_start_seconds", "From a request until its guest began."},
        [RUN_TIME_RUN] = {"run_seconds", "From a guest's beginning to the end of its run."},
    };
    enum err err = ERR_OK;
    for (int which = 0; !err && which < RUN_TIME_COUNT; which++) {
        struct run_times times = runs_times(runs, (enum run_time)which);
        const char *name = rows[which].name;
        err = buf_printf(text, "# HELP zasm_%s %s\n# TYPE zasm_%s histogram\n", name,
                         rows[which].help, name);
        uint64_t count = 0;
        for (size_t i = 0; !err && i < RUN_TIME_BUCKETS; i++) {
            char end[32] = "+Inf";
            if (i < RUN_TIME_BUCKETS - 1) {
                snprintf(end, sizeof end, "%g", (double)run_time_bounds_ns[i] / NS_PER_S);
            }
            count += times.counts[i];
            err = buf_printf(text, "zasm_%s_bucket{le=\"%s\"} %" PRIu64 "\n", name, end, count);
        }
        if (!err) {
            err = buf_printf(text, "zasm_%s_sum %.9f\nzasm_%s_count %" PRIu64 "\n", name,
                             (double)times.sum_ns / NS_PER_S, name, count);
        }
    }
    return err;
}

static enum err add_refused(struct buf *text, struct api *api) {
    uint64_t malformed = 0;
    for (size_t i = 0; i < api->server_count; i++) {
        malformed += http_server_refused(api->servers[i]);
    }
    return buf_printf(text,
                      "# HELP zasm_http_refused_total Requests that nothing was done for.\n"
                      "# TYPE zasm_http_refused_total counter\n"
                      "zasm_http_refused_total{reason=\"malformed\"} %" PRIu64 "\n"
                      "zasm_http_refused_total{reason=\"access\"} %" PRIu64 "\n"
                      "zasm_http_refused_total{reason=\"request\"} %" PRIu64 "\n",
                      malformed, (uint64_t)atomic_load(&api->refused_access),
                      (uint64_t)atomic_load(&api->refused_requests));
}

static void metrics_start(struct request *request) {
    struct api *api = request->api;
    struct runs_counters counters = runs_counters(api->runs);
    uint64_t connections = 0, exchanges = 0;
    for (size_t i = 0; i < api->server_count; i++) {
        connections += http_server_connections(api->servers[i]);
        exchanges += http_server_exchanges(api->servers[i]);
    }
    cleanup_buf struct buf text = {0};
    enum err err = add_runs(&text, &counters);
    if (!err) {
        err = add_times(&text, api->runs);
    }
    if (!err) {
        err = add(&text, "http_requests_total", COUNTER, "Requests that were begun.",
                  atomic_load_explicit(&api->requests, memory_order_relaxed));
    }
    err = err ? err : add_refused(&text, api);
    if (!err) {
        err = add(&text, "http_requests_open", GAUGE, "Requests under way.", exchanges);
    }
    if (!err) {
        err = add(&text, "http_connections", GAUGE, "Open connections.", connections);
    }
    if (!err) {
        err = add(&text, "apps", GAUGE, "Apps.", catalog_count(api->catalog));
    }
    if (!err) {
        err =
            add(&text, "resident_bytes", GAUGE, "Memory that the server holds.", resident_bytes());
    }
    if (!err) {
        err = add(&text, "uptime_seconds", GAUGE, "Time since the start.",
                  (clock_monotonic_ns() - api->started_ns) / NS_PER_S);
    }
    if (!err) {
        err = http_add_header(request->exchange, "Content-Security-Policy", "sandbox");
    }
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    request->responded = true;
    http_respond(request->exchange, 200, "text/plain; version=0.0.4; charset=utf-8", text.data,
                 text.length);
}

const struct request_handler metrics_handler = {.start = metrics_start};

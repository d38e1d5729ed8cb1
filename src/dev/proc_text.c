/* What can be read of a run's state, as text and as JSON. */
#include "dev/proc.h"

#include "base/clock.h"

#include <inttypes.h>

/* One thing that is known of a run. */
struct fact {
    const char *name;
    enum { FACT_NUMBER, FACT_TEXT, FACT_TIME, FACT_YES, FACT_NONE } kind;
    bool is_usage; /* it is in `usage`, too */
    uint64_t number;
    const char *text;
};
enum { FACTS_MAX = 32 };
struct facts {
    struct fact list[FACTS_MAX];
    size_t count;
};

static void add(struct facts *facts, struct fact fact) {
    if (facts->count < FACTS_MAX) {
        facts->list[facts->count++] = fact;
    }
}

static void add_number(struct facts *facts, const char *name, uint64_t number) {
    add(facts, (struct fact){.name = name, .kind = FACT_NUMBER, .number = number});
}

static void add_usage(struct facts *facts, const char *name, uint64_t number) {
    add(facts,
        (struct fact){.name = name, .kind = FACT_NUMBER, .number = number, .is_usage = true});
}

static void add_text(struct facts *facts, const char *name, const char *text) {
    add(facts, (struct fact){.name = name, .kind = FACT_TEXT, .text = text});
}

static void add_time(struct facts *facts, const char *name, uint64_t realtime_ns) {
    if (realtime_ns) {
        add(facts, (struct fact){.name = name, .kind = FACT_TIME, .number = realtime_ns});
    }
}

/* A program that is kept has none (run_start.c): no number that could be taken for one. */
static void add_limit_ns(struct facts *facts, const char *name, uint64_t limit_ns) {
    if (limit_ns == UINT64_MAX) {
        add(facts, (struct fact){.name = name, .kind = FACT_NONE});
    } else {
        add_number(facts, name, limit_ns / NS_PER_US);
    }
}

/* Empty if it has none. */
static void print_trace(const struct run *run, char text[TRACEPARENT_TEXT_SIZE]) {
    struct traceparent traceparent;
    text[0] = 0;
    if (run_traceparent(run, &traceparent)) {
        traceparent_format(&traceparent, text);
    }
}

/* `status`, `failure` and `trace` are borrowed by the facts. */
static void collect(const struct run_status *status, const struct buf *failure, const char *trace,
                    struct facts *facts) {
    facts->count = 0;
    add_number(facts, "id", status->id);
    add_text(facts, "app", status->app);
    add_number(facts, "version", status->version);
    add_text(facts, "state", run_state_text(status->state));
    if (status->state == RUN_ENDED) {
        add_number(facts, "exit", (uint32_t)status->exit_status);
        add_text(facts, "reason", run_reason_text(status->reason));
    }
    if (failure->length > 0) {
        add_text(facts, "message", buf_text(failure));
    }
    if (status->parent_id) {
        add_number(facts, "parent", status->parent_id);
    }
    if (trace[0]) {
        add_text(facts, "traceparent", trace);
    }
    add(facts, (struct fact){.name = "detached", .kind = FACT_YES, .number = status->detached});
    add_time(facts, "created", status->created_ns);
    add_time(facts, "started", status->started_ns);
    add_time(facts, "ended", status->ended_ns);
    add_usage(facts, "queued_us", status->queued_ns / NS_PER_US);
    add_usage(facts, "wall_us", status->wall_ns / NS_PER_US);
    add_usage(facts, "cpu_us", status->cpu_ns / NS_PER_US);
    if (status->cpu_below_ns) {
        add_usage(facts, "cpu_us_of_started", status->cpu_below_ns / NS_PER_US);
    }
    add_usage(facts, "memory_bytes", status->memory_bytes);
    add_usage(facts, "peak_bytes", status->memory_peak_bytes);
    add_usage(facts, "calls", status->calls);
    add_usage(facts, "read_bytes", status->bytes_read);
    add_usage(facts, "written_bytes", status->bytes_written);
    add_usage(facts, "output_bytes", status->output_bytes);
    add_number(facts, "limit_memory_bytes", status->limits.memory_bytes);
    add_limit_ns(facts, "limit_cpu_us", status->limits.cpu_ns);
    add_limit_ns(facts, "limit_wall_us", status->limits.wall_ns);
    add_number(facts, "limit_output_bytes", status->limits.output_bytes);
    add_number(facts, "limit_tmp_bytes", status->limits.tmp_bytes);
    add_number(facts, "limit_files", status->limits.files);
    add_number(facts, "limit_open_files", status->limits.open_files);
}

/* A text of several lines (a backtrace) gives its first. */
static enum err print_fact(const struct fact *fact, struct buf *text) {
    char time[CLOCK_TEXT_SIZE];
    struct str line = str_of(fact->text);
    switch (fact->kind) {
    case FACT_NUMBER:
        return buf_printf(text, "%s: %" PRIu64 "\n", fact->name, fact->number);
    case FACT_TEXT:
        line = str_cut(&line, '\n');
        return buf_printf(text, "%s: " STR_FORMAT "\n", fact->name, STR_ARGS(line));
    case FACT_TIME:
        clock_format_utc(fact->number, time);
        return buf_printf(text, "%s: %s\n", fact->name, time);
    case FACT_YES:
        return buf_printf(text, "%s: %s\n", fact->name, fact->number ? "yes" : "no");
    case FACT_NONE:
        return buf_printf(text, "%s: none\n", fact->name);
    }
    return ERR_OK;
}

static enum err print_facts(struct run *run, bool usage_only, struct buf *text) {
    struct buf cleanup_buf failure = {0};
    struct run_status status = run_status(run);
    run_failure(run, &failure);
    char trace[TRACEPARENT_TEXT_SIZE];
    print_trace(run, trace);
    struct facts facts;
    collect(&status, &failure, trace, &facts);
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < facts.count; i++) {
        if (!usage_only || facts.list[i].is_usage) {
            err = print_fact(&facts.list[i], text);
        }
    }
    if (usage_only) {
        return err;
    }
    const char *const *tags;
    size_t tag_count = run_tags(run, &tags);
    for (size_t i = 0; !err && i < tag_count; i++) {
        err = buf_printf(text, "tag: %s\n", tags[i]);
    }
    return err;
}

enum err dev_proc_status_text(struct run *run, struct buf *text) {
    return print_facts(run, false, text);
}

enum err dev_proc_usage_text(struct run *run, struct buf *text) {
    return print_facts(run, true, text);
}

static json_t *fact_json(const struct fact *fact) {
    char time[CLOCK_TEXT_SIZE];
    switch (fact->kind) {
    case FACT_NUMBER:
        return json_integer((json_int_t)MIN(fact->number, (uint64_t)INT64_MAX));
    case FACT_TEXT:
        return json_string(fact->text);
    case FACT_TIME:
        clock_format_utc(fact->number, time);
        return json_string(time);
    case FACT_YES:
        return json_boolean(fact->number);
    case FACT_NONE:
        return json_null();
    }
    return NULL;
}

json_t *dev_proc_status_json(struct run *run) {
    struct buf cleanup_buf failure = {0};
    struct run_status status = run_status(run);
    run_failure(run, &failure);
    char trace[TRACEPARENT_TEXT_SIZE];
    print_trace(run, trace);
    struct facts facts;
    collect(&status, &failure, trace, &facts);
    json_t *object = json_object();
    for (size_t i = 0; i < facts.count; i++) {
        json_t *value = fact_json(&facts.list[i]);
        if (!value && facts.list[i].kind == FACT_TEXT) {
            value = json_string("(not UTF-8)");
        }
        if (!value || json_object_set_new(object, facts.list[i].name, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    const char *const *tags;
    size_t tag_count = run_tags(run, &tags);
    json_t *array = json_array();
    for (size_t i = 0; i < tag_count; i++) {
        json_array_append_new(array, json_string(tags[i]));
    }
    if (json_object_set_new(object, "tags", array) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

enum err dev_proc_changed_text(struct run *run, struct buf *text) {
    const struct changes *changes = run_changes(run);
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < changes_count(changes); i++) {
        unsigned flags;
        struct str path = changes_path(changes, i, &flags);
        err = buf_printf(text, "%s " STR_FORMAT "%s\n",
                         flags & CHANGE_REMOVED ? "removed" : "changed", STR_ARGS(path),
                         flags & CHANGE_DIRECTORY ? "/" : "");
    }
    return !err && changes_has_more(changes) ? buf_append_str(text, STR("more\n")) : err;
}

enum err dev_proc_end_text(struct run *run, struct buf *text) {
    struct run_status status = run_status(run);
    return buf_printf(text, "%s %d\n", run_reason_text(status.reason), status.exit_status);
}

static void verb_kill(struct run *run) {
    run_kill(run, RUN_REASON_KILLED);
}

static const struct {
    const char *name;
    void (*act)(struct run *run);
} verbs[] = {
    {"pause", run_pause},
    {"resume", run_resume},
    {"kill", verb_kill},
};

enum err dev_proc_control(struct run *run, struct str verb) {
    for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++) {
        if (str_equal_text(verb, verbs[i].name)) {
            verbs[i].act(run);
            return ERR_OK;
        }
    }
    return ERR_INVAL;
}

bool dev_proc_is_verb(struct str verb) {
    for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++) {
        if (str_equal_text(verb, verbs[i].name)) {
            return true;
        }
    }
    return false;
}

bool dev_proc_may_see(const struct who *who, const struct run *run) {
    if (who->may_control && who->owner_id == run_who(run)->owner_id) {
        return true;
    }
    return who->run_id != 0 && (who->run_id == run_id(run) || who->run_id == run_parent_id(run));
}

enum err dev_proc_fail_missing(struct run *run, bool is_core, struct buf *message) {
    unsigned long long id = run_id(run);
    struct run_status status = run_status(run);
    if (!is_core) {
        return buf_fail(message, ERR_NOENT,
                        "run %llu was not traced; start one with trace, as in /run?name=%s&trace",
                        id, status.app);
    }
    if (!run_wants_core(run)) {
        return buf_fail(message, ERR_NOENT,
                        "run %llu was started without core; start one with it, as in "
                        "/run?name=%s&core: should it trap, there is a core dump",
                        id, status.app);
    }
    if (status.state != RUN_ENDED) {
        return buf_fail(message, ERR_NOENT,
                        "run %llu has not ended; a core dump is made when it traps", id);
    }
    bool has_trapped = status.reason == RUN_REASON_TRAP ||
                       (status.reason == RUN_REASON_MEMORY && status.exit_status == 134);
    if (!has_trapped) {
        return buf_fail(message, ERR_NOENT,
                        "run %llu did not trap: its status says how it ended; only a trap leaves a "
                        "core dump",
                        id);
    }
    return buf_fail(message, ERR_NOENT,
                    "the core dump of run %llu was too large to be made (--core), or has gone for "
                    "newer ones (--kept-cores)",
                    id);
}

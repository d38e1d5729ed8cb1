/* The life of runs, with real guests: how they end, what they say, limits, admission, keeping. */
#include "run/run_suite_testing.h"

static void test_hello(void **state) {
    (void)state;
    struct run *run = start(guest_hello, (struct run_request){0});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.state, RUN_ENDED);
    assert_int_equal(status.reason, RUN_REASON_EXIT);
    assert_int_equal(status.exit_status, 0);
    assert_int_equal(status.output_bytes, 6);
    assert_true(status.calls >= 1 && status.bytes_written == 6);
    assert_true(status.cpu_ns > 0 && status.memory_peak_bytes == 65536);
    assert_true(status.ended_ns >= status.started_ns && status.started_ns >= status.created_ns);
    assert_string_equal(fixture_output(&fixture, run, 3), "hello\n");
    assert_string_equal(fixture_output(&fixture, run, RUN_STDERR), "");
    cleanup_buf struct buf failure = {0};
    run_failure(run, &failure);
    assert_int_equal(failure.length, 0);
    run_unref(run);
}

static void test_order_and_status(void **state) {
    (void)state;
    struct run *run = start(guest_both, (struct run_request){0});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.reason, RUN_REASON_EXIT);
    assert_int_equal(status.exit_status, 3);
    assert_string_equal(fixture_output(&fixture, run, 3), "out 1\nerr\nout 2\n");
    assert_string_equal(fixture_output(&fixture, run, RUN_STDOUT), "out 1\nout 2\n");
    assert_string_equal(fixture_output(&fixture, run, RUN_STDERR), "err\n");
    run_unref(run);
    run = start(guest_both, (struct run_request){.discard_stderr = true});
    fixture_wait(&fixture, run);
    assert_string_equal(fixture_output(&fixture, run, 3), "out 1\nout 2\n");
    run_unref(run);
}

static void test_trap(void **state) {
    (void)state;
    struct run *run = start(guest_trap, (struct run_request){0});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.reason, RUN_REASON_TRAP);
    assert_int_equal(status.exit_status, 134);
    const char *output = fixture_output(&fixture, run, 3);
    /* The line that the guest did not end is ended before ours begins. */
    assert_ptr_equal(strstr(output, "about to\n0asm: trap: "), output);
    assert_non_null(strstr(output, "unreachable"));
    assert_non_null(strstr(output, "inner"));
    assert_non_null(strstr(output, "outer"));
    assert_int_equal(output[strlen(output) - 1], '\n');
    run_unref(run);
}

static void test_limits(void **state) {
    (void)state;
    static const struct {
        const char *text;
        struct app_limits limits;
        enum run_reason reason;
        const char *message;
    } cases[] = {
        {guest_loop, {.cpu_ns = 20 * NS_PER_MS}, RUN_REASON_CPU, "cpu limit of 20 ms reached"},
        {guest_loop, {.wall_ns = 20 * NS_PER_MS}, RUN_REASON_WALL, "wall limit of 20 ms reached"},
        {guest_cat, {.wall_ns = NS_PER_S / 50}, RUN_REASON_WALL, "wall limit of 20 ms reached"},
        {guest_flood, {.output_bytes = 100000}, RUN_REASON_OUTPUT, "output limit of 100000 bytes"},
        {guest_flood, {.output_bytes = MIB}, RUN_REASON_OUTPUT, "output limit of 1 MiB reached"},
        {guest_grow, {.memory_bytes = 4 * MIB}, RUN_REASON_MEMORY, "memory limit of 4 MiB reached"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct run_request request = {.limits = cases[i].limits, .stdin_open = true};
        struct run *run = start(cases[i].text, request);
        struct run_status status = fixture_wait(&fixture, run);
        assert_int_equal(status.reason, cases[i].reason);
        assert_true(status.exit_status == 137 || status.exit_status == 134);
        const char *output = fixture_output(&fixture, run, RUN_STDERR);
        assert_non_null(strstr(output, "0asm: killed: "));
        assert_non_null(strstr(output, cases[i].message));
        if (cases[i].reason == RUN_REASON_OUTPUT) {
            /* Exactly the limit, and our line, which begins by ending the guest's. */
            assert_int_equal(status.output_bytes, cases[i].limits.output_bytes + strlen(output));
            assert_int_equal(output[0], '\n');
        }
        run_unref(run);
    }
}

static void test_limits_only_tighten(void **state) {
    (void)state;
    struct run_request request = {.limits = {.memory_bytes = GIB, .cpu_ns = NS_PER_S}};
    struct app *app =
        fixture_app(&fixture, "limited", guest_hello, "{\"memory\": \"1MiB\", \"cpu\": \"20s\"}");
    request.app = app;
    struct run *run = fixture_start(&fixture, &request);
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.limits.memory_bytes, MIB);
    assert_int_equal(status.limits.cpu_ns, NS_PER_S);
    assert_int_equal(status.limits.wall_ns, fixture_options.defaults.wall_ns);
    run_unref(run);
    request.detached = true;
    run = fixture_start(&fixture, &request);
    assert_int_equal(run_status(run).limits.wall_ns, fixture_options.detached_wall_ns);
    fixture_wait(&fixture, run);
    run_unref(run);
    app_unref(app);
}

static void test_kill(void **state) {
    (void)state;
    /* While it computes, while it waits, and before it was ever stepped. */
    for (int i = 0; i < 3; i++) {
        struct run *run =
            start(i == 1 ? guest_cat : guest_loop, (struct run_request){.stdin_open = true});
        if (i < 2) {
            FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == (i ? RUN_WAITING : RUN_RUNNING));
        }
        run_kill(run, RUN_REASON_KILLED);
        run_kill(run, RUN_REASON_CLIENT); /* the first one counts */
        struct run_status status = fixture_wait(&fixture, run);
        assert_int_equal(status.reason, RUN_REASON_KILLED);
        assert_int_equal(status.exit_status, 137);
        assert_string_equal(fixture_output(&fixture, run, 3), "0asm: killed: by request\n");
        run_kill(run, RUN_REASON_KILLED); /* harmless */
        run_unref(run);
    }
}

static void test_client(void **state) {
    (void)state;
    struct run *run = start(guest_loop, (struct run_request){0});
    run_client_left(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_CLIENT);
    run_unref(run);
    run = start(guest_cat, (struct run_request){.detached = true, .stdin_open = true});
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    run_client_left(run);
    run_stdin_close(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    run_unref(run);
}

/* A page for a client that has left, of a program that says nothing: it has its time. */
static void test_silent_for_nobody(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.unheard_ns = NS_PER_MS;
    again_with(&options);
    const struct run_request request = {.is_web = true, .stdin_open = true};
    const char *const guests[] = {guest_cat, guest_loop};
    for (size_t i = 0; i < ARRAY_LENGTH(guests); i++) {
        struct run *run = start(guests[i], request);
        FIXTURE_TURN_UNTIL(&fixture, run_status(run).state >= RUN_RUNNING);
        run_client_left(run);
        struct run_status status = fixture_wait(&fixture, run);
        assert_int_equal(status.reason, RUN_REASON_CLIENT);
        assert_int_equal(status.exit_status, 137);
        run_unref(run);
    }
    /* It left before the guest began; the time of one that is paused stands still. */
    struct run *run = start(guest_cat, request);
    run_client_left(run);
    run_pause(run);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_PAUSED);
    for (uint64_t end_ns = clock_monotonic_ns() + 5 * NS_PER_MS; clock_monotonic_ns() < end_ns;) {
        loop_turn(fixture.loops[0]);
    }
    assert_int_equal(run_status(run).state, RUN_PAUSED);
    run_resume(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_CLIENT);
    run_unref(run);
    /* The limit of time is one all the same. */
    run = start(guest_cat, (struct run_request){
                               .is_web = true, .stdin_open = true, .limits.wall_ns = NS_PER_MS});
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_WALL);
    run_unref(run);
}

/* What it writes after its answer's promised length. */
static void test_answered(void **state) {
    (void)state;
    struct run_request request = {.is_web = true, .stdin_open = true};
    struct run *run = start(guest_cat, request);
    struct run_reader reader = {0};
    struct buf cleanup_buf line = {0};
    struct op op;
    size_t written;
    run_bind_reader(run, &reader);
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    assert_int_equal(buf_append_str(&line, STR("too long")), ERR_OK);
    assert_false(run_answered(run, &reader, &line));
    assert_int_equal(line.length, 0); /* it is the run's, for its log */
    assert_int_equal(run_stdin_write(&op, run, "abc", 3, &written), ERR_OK);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).output_bytes == 3);
    assert_true(run_answered(run, &reader, &line));
    run_kill(run, RUN_REASON_KILLED);
    fixture_wait(&fixture, run);
    assert_true(run_answered(run, &reader, &line));
    reader.offset = 3;
    assert_int_equal(buf_append_str(&line, STR("too long")), ERR_OK);
    assert_false(run_answered(run, &reader, &line));
    assert_int_equal(line.length, 8); /* nothing comes any more */
    run_unref(run);
    op_done(&op);
}

/* A page that reaches its limit before anybody reads it waits for that, and then goes on. */
static void test_page_is_full(void **state) {
    (void)state;
    struct run_request request = {.is_web = true, .limits = {.output_bytes = MIB}};
    struct run *run = start(guest_flood, request);
    struct run_reader reader = {0};
    static uint8_t data[64 * KIB];
    size_t length;
    unsigned stream;
    uint64_t time_ns;
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    FIXTURE_TURN_UNTIL(&fixture, run_output_is_full(run));
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    run_bind_reader(run, &reader);
    assert_false(run_output_is_full(run));
    for (uint64_t total = 0; total < 4 * MIB; total += length) {
        assert_int_equal(
            FIXTURE_WAIT(&fixture, run_output_read(&op, run, &reader, RUN_STDOUT, data,
                                                   sizeof(data), &length, &stream, &time_ns)),
            ERR_OK);
        assert_true(length > 0);
    }
    run_kill(run, RUN_REASON_KILLED);
    fixture_wait(&fixture, run);
    run_unref(run);

    /* There is room in memory already when it is bound. */
    request.limits.output_bytes = 10000;
    run = start(guest_flood, request);
    reader = (struct run_reader){0};
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    uint64_t before = run_status(run).output_bytes;
    run_bind_reader(run, &reader);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).output_bytes > before);
    run_kill(run, RUN_REASON_KILLED);
    fixture_wait(&fixture, run);
    run_unref(run);
    op_done(&op);
}

/* A page for a client that has left. */
static void test_unheard(void **state) {
    (void)state;
    /* A short one is none the wiser. */
    struct run_request request = {.is_web = true, .stdin_open = true};
    struct run *run = start(guest_cat, request);
    struct run_reader reader = {0};
    struct op op;
    size_t written;
    run_bind_reader(run, &reader);
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    struct file *output = run_stream_file(run, 1);
    unsigned ready;
    uint64_t bytes;
    assert_non_null(output);
    assert_int_equal(output->dev->poll(&op, output, POLL_WRITABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_WRITABLE);
    run_client_left(run);
    assert_int_equal(output->dev->poll(&op, output, POLL_WRITABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_WRITABLE | POLL_HANGUP);
    file_unref(output);
    assert_int_equal(run_stdin_write(&op, run, "abc", 3, &written), ERR_OK);
    run_stdin_close(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    run_unref(run);

    /* One that would go on for ever without looking is ended, also where it waited for room. */
    for (int i = 0; i < 2; i++) {
        run = start(guest_flood, request);
        reader = (struct run_reader){0};
        run_bind_reader(run, &reader);
        if (i > 0) {
            FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
        }
        run_client_left(run);
        struct run_status status = fixture_wait(&fixture, run);
        assert_int_equal(status.reason, RUN_REASON_CLIENT);
        assert_int_equal(status.exit_status, 137);
        struct buf cleanup_buf text = {0};
        run_failure(run, &text);
        assert_string_equal(buf_text(&text), "its client has left");
        run_unref(run);
    }
    op_done(&op);
}

static void test_pause(void **state) {
    (void)state;
    struct run *run = start(guest_cat, (struct run_request){.stdin_open = true});
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    run_pause(run);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_PAUSED);
    size_t written;
    assert_int_equal(run_stdin_write(&op, run, "later\n", 6, &written), ERR_OK);
    for (int i = 0; i < 10; i++) {
        loop_turn(fixture.loops[0]);
        assert_int_equal(run_status(run).state, RUN_PAUSED);
    }
    assert_int_equal(run_status(run).output_bytes, 0);
    run_resume(run);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).output_bytes == 6);
    run_pause(run);
    run_resume(run); /* the later one wins */
    run_stdin_close(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    run_unref(run);

    /* From its beginning, and killed while it is paused. */
    run = start(guest_loop, (struct run_request){.limits = {.wall_ns = NS_PER_MS}});
    run_pause(run);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_PAUSED);
    uint64_t until_ns = clock_monotonic_ns() + 5 * NS_PER_MS;
    FIXTURE_TURN_UNTIL(&fixture, clock_monotonic_ns() > until_ns);
    assert_int_equal(run_status(run).state, RUN_PAUSED); /* its wall clock stands still */
    run_kill(run, RUN_REASON_KILLED);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_KILLED);
    run_unref(run);
    op_done(&op);
}

static void test_stdin(void **state) {
    (void)state;
    struct run *run = start(guest_cat, (struct run_request){.stdin_open = true});
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    size_t total = 0;
    static char piece[50000];
    memset(piece, 'x', sizeof(piece));
    for (int i = 0; i < 40; i++) {
        for (size_t done = 0; done < sizeof(piece);) {
            size_t written = 0;
            enum err err = FIXTURE_WAIT(
                &fixture, run_stdin_write(&op, run, piece + done, sizeof(piece) - done, &written));
            assert_int_equal(err, ERR_OK);
            done += written;
            total += written;
        }
    }
    run_stdin_close(run);
    size_t written;
    assert_int_equal(run_stdin_write(&op, run, "x", 1, &written), ERR_PIPE);
    assert_int_equal(fixture_wait(&fixture, run).output_bytes, total);
    assert_int_equal(strlen(fixture_output(&fixture, run, 3)), total);
    run_unref(run);

    /* It is empty unless asked for; after the end nobody reads. */
    run = start(guest_cat, (struct run_request){0});
    assert_int_equal(run_stdin_write(&op, run, "x", 1, &written), ERR_PIPE);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    run_unref(run);
    run = start(guest_hello, (struct run_request){.stdin_open = true});
    fixture_wait(&fixture, run);
    assert_int_equal(run_stdin_write(&op, run, "x", 1, &written), ERR_PIPE);
    run_unref(run);
    op_done(&op);
}

static void test_backpressure(void **state) {
    (void)state;
    struct run *run = start(guest_flood, (struct run_request){.limits = {.output_bytes = 2 * MIB}});
    struct run_reader reader = {0};
    run_bind_reader(run, &reader);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    uint64_t ahead = run_status(run).output_bytes;
    assert_true(ahead >= RUN_READER_LAG_MAX && ahead <= RUN_READER_LAG_MAX + 8192);
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    uint64_t total = 0;
    for (;;) {
        static uint8_t data[30000];
        size_t length;
        unsigned stream;
        uint64_t time_ns;
        assert_int_equal(
            FIXTURE_WAIT(&fixture, run_output_read(&op, run, &reader, RUN_STDOUT, data,
                                                   sizeof(data), &length, &stream, &time_ns)),
            ERR_OK);
        if (length == 0) {
            break;
        }
        total += length;
        struct run_status status = run_status(run);
        assert_true(status.output_bytes - total <= RUN_READER_LAG_MAX + 8192);
    }
    assert_int_equal(total, 2 * MIB);
    run_unref(run);

    /* A reader that goes away does not hold a detached run. */
    run =
        start(guest_flood, (struct run_request){.limits = {.output_bytes = MIB}, .detached = true});
    reader = (struct run_reader){0};
    run_bind_reader(run, &reader);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    run_client_left(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_OUTPUT);
    run_unref(run);
    op_done(&op);
}

static void test_call(void **state) {
    (void)state;
    static const char library[] = "(module (func (export \"add\") (param i32 i32) (result i32)"
                                  " (i32.add (local.get 0) (local.get 1))))";
    struct str arguments[] = {STR("2"), STR("3")};
    struct run_request request = {
        .call = STR("add"), .arguments = arguments, .argument_count = 2, .has_arguments = true};
    struct run *run = start(library, request);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    assert_string_equal(fixture_output(&fixture, run, 3), "5\n");
    run_unref(run);

    request.call = STR("nothing");
    run = start(library, request);
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.reason, RUN_REASON_FAILED);
    assert_int_equal(status.failure, ERR_NOENT);
    assert_int_equal(status.exit_status, 126);
    assert_non_null(strstr(fixture_output(&fixture, run, RUN_STDERR), "0asm: cannot start: "));
    run_unref(run);

    struct app *app = fixture_app(&fixture, "library", library, NULL);
    request = (struct run_request){.app = app};
    cleanup_buf struct buf message = {0};
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message),
                     ERR_NOENT);
    assert_non_null(strstr(buf_text(&message), "call="));
    app_unref(app);
}

static void check_strings(const struct wasi_strings *strings, const char *const *wanted) {
    const char *next = (const char *)strings->bytes.data;
    uint32_t count = 0;
    for (; wanted[count]; count++) {
        assert_true(count < strings->count);
        assert_string_equal(next, wanted[count]);
        next += strlen(next) + 1;
    }
    assert_int_equal(strings->count, count);
}

static void test_arguments(void **state) {
    (void)state;
    struct app *app =
        fixture_app(&fixture, "strings", guest_hello,
                    "{\"args\": [\"a\", \"b\"], \"env\": {\"X\": \"1\", \"Y\": \"2\"}}");
    struct run_request request = {.app = app};
    struct run *run = fixture_start(&fixture, &request);
    check_strings(run_arguments(run), (const char *[]){"strings", "a", "b", NULL});
    check_strings(run_environment(run), (const char *[]){"X=1", "Y=2", NULL});
    run_unref(run);

    struct str arguments[] = {STR("only"), STR("")};
    struct str environment[] = {STR("Y=3"), STR("PWD=/x"), STR("Y=4"), STR("Z=")};
    struct str tags[] = {STR("user:7"), STR("x:y:z")};
    request = (struct run_request){.app = app,
                                   .arguments = arguments,
                                   .argument_count = 2,
                                   .has_arguments = true,
                                   .environment = environment,
                                   .environment_count = 4,
                                   .tags = tags,
                                   .tag_count = 2};
    run = fixture_start(&fixture, &request);
    check_strings(run_arguments(run), (const char *[]){"strings", "only", "", NULL});
    check_strings(run_environment(run), (const char *[]){"X=1", "PWD=/x", "Y=4", "Z=", NULL});
    const char *const *texts;
    assert_int_equal(run_tags(run, &texts), 2);
    assert_string_equal(texts[0], "user:7");
    assert_string_equal(texts[1], "x:y:z");
    run_unref(run);

    request = (struct run_request){
        .app = app, .more_environment = {"Y=5\0Z=\0", 7}, .more_environment_count = 2};
    run = fixture_start(&fixture, &request);
    check_strings(run_environment(run), (const char *[]){"X=1", "Y=5", "Z=", NULL});
    run_unref(run);

    cleanup_buf struct buf message = {0};
    request.more_environment_count = RUN_ENVIRONMENT_MAX;
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message), ERR_2BIG);
    struct str bad = {"A=\0", 3};
    request = (struct run_request){.app = app, .environment = &bad, .environment_count = 1};
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message),
                     ERR_INVAL);
    bad = STR("=x");
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message),
                     ERR_INVAL);
    static char large[300 * 1024];
    memset(large, 'a', sizeof(large));
    struct str many = {large, sizeof(large)};
    request = (struct run_request){
        .app = app, .arguments = &many, .argument_count = 1, .has_arguments = true};
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message), ERR_2BIG);
    request = (struct run_request){.app = app, .tags = &many, .tag_count = 1};
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message),
                     ERR_INVAL);
    app_unref(app);
}

static void test_queue(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.max_runs_per_app = 1;
    options.queue_per_app = 2;
    again_with(&options);
    struct app *app = fixture_app(&fixture, "queued", guest_cat, NULL);
    struct run_request request = {.app = app, .stdin_open = true};
    struct run *runs[3], *refused;
    for (int i = 0; i < 3; i++) {
        runs[i] = fixture_start(&fixture, &request);
    }
    cleanup_buf struct buf message = {0};
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &refused, &message),
                     ERR_AGAIN);
    assert_non_null(strstr(buf_text(&message), "2 wait"));
    struct runs_counters counters = runs_counters(fixture.runs);
    assert_int_equal(counters.running, 1);
    assert_int_equal(counters.queued, 2);
    assert_int_equal(counters.refused[RUN_REFUSAL_QUEUE], 1);
    FIXTURE_TURN_UNTIL(&fixture, run_status(runs[0]).state == RUN_WAITING);
    assert_int_equal(run_status(runs[1]).state, RUN_QUEUED);
    /* In the order in which they came. */
    run_stdin_close(runs[0]);
    fixture_wait(&fixture, runs[0]);
    FIXTURE_TURN_UNTIL(&fixture, run_status(runs[1]).state == RUN_WAITING);
    assert_int_equal(run_status(runs[2]).state, RUN_QUEUED);
    /* One that is killed in the queue never ran and gives no place. */
    run_kill(runs[2], RUN_REASON_KILLED);
    struct run_status status = fixture_wait(&fixture, runs[2]);
    assert_int_equal(status.started_ns, 0);
    assert_int_equal(run_status(runs[1]).state, RUN_WAITING);
    assert_int_equal(runs_counters(fixture.runs).queued, 0);
    run_stdin_close(runs[1]);
    assert_int_equal(fixture_wait(&fixture, runs[1]).reason, RUN_REASON_EXIT);
    assert_int_equal(runs_counters(fixture.runs).running, 0);
    for (int i = 0; i < 3; i++) {
        run_unref(runs[i]);
    }
    app_unref(app);
}

/* A page that waits in the queue is not begun when its client has left; one that has its place is
 * not ended. */
static void test_client_leaves_queue(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.max_runs_per_app = 1;
    again_with(&options);
    struct app *app = fixture_app(&fixture, "left", guest_cat, NULL);
    struct run_request request = {.app = app, .stdin_open = true, .is_web = true};
    struct run *runs[3];
    for (int i = 0; i < 3; i++) {
        runs[i] = fixture_start(&fixture, &request);
    }
    run_client_left(runs[0]);
    run_client_left(runs[1]);
    struct run_status status = fixture_wait(&fixture, runs[1]);
    assert_int_equal(status.reason, RUN_REASON_CLIENT);
    assert_int_equal(status.started_ns, 0);
    assert_int_equal(runs_counters(fixture.runs).queued, 1);
    assert_int_equal(runs_counters(fixture.runs).running, 1);
    run_stdin_close(runs[0]);
    assert_int_equal(fixture_wait(&fixture, runs[0]).reason, RUN_REASON_EXIT);
    FIXTURE_TURN_UNTIL(&fixture, run_status(runs[2]).state == RUN_WAITING);
    run_client_left(runs[2]);
    run_stdin_close(runs[2]);
    assert_int_equal(fixture_wait(&fixture, runs[2]).reason, RUN_REASON_EXIT);
    assert_int_equal(runs_counters(fixture.runs).running, 0);
    run_client_left(runs[2]); /* nothing */
    for (int i = 0; i < 3; i++) {
        run_unref(runs[i]);
    }
    app_unref(app);
}

static void test_queue_wait(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.max_runs_per_app = 1;
    options.queue_wait_ns = NS_PER_MS;
    again_with(&options);
    struct app *app = fixture_app(&fixture, "waits", guest_cat, NULL);
    struct run_request request = {.app = app, .stdin_open = true};
    struct run *first = fixture_start(&fixture, &request);
    struct run *second = fixture_start(&fixture, &request);
    struct run_status status = fixture_wait(&fixture, second);
    assert_int_equal(status.reason, RUN_REASON_FAILED);
    assert_int_equal(status.failure, ERR_AGAIN);
    assert_int_equal(runs_counters(fixture.runs).queued, 0);
    run_unref(second);
    run_unref(first);
    app_unref(app);
}

/* When the server is full, apps have their turns one after the other. */
static void test_round_robin(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.max_runs = 1;
    again_with(&options);
    struct app *greedy = fixture_app(&fixture, "greedy", guest_hello, NULL);
    struct app *modest = fixture_app(&fixture, "modest", guest_hello, NULL);
    struct run_request request = {.app = greedy};
    struct run *runs[6], *other;
    for (int i = 0; i < 6; i++) {
        runs[i] = fixture_start(&fixture, &request);
    }
    request.app = modest;
    other = fixture_start(&fixture, &request);
    fixture_wait(&fixture, other);
    struct run_status status = run_status(other);
    unsigned before = 0;
    for (int i = 0; i < 6; i++) {
        struct run_status one = fixture_wait(&fixture, runs[i]);
        before += one.started_ns < status.started_ns;
        run_unref(runs[i]);
    }
    assert_int_equal(before, 2); /* the one that ran, and the one whose turn it was */
    run_unref(other);
    app_unref(greedy);
    app_unref(modest);
}

enum { PLACING_TURNS = 3, PLACING_NS = 2000 * 1000 };

/* Computes for a while in each of some turns, as one that copies large files. */
static enum err place_slowly(void *context, struct op *op, struct run *run, void *tree,
                             struct buf *message) {
    (void)run;
    (void)tree;
    (void)message;
    unsigned *turns = context;
    uint64_t until_ns = clock_thread_cpu_ns() + PLACING_NS;
    while (clock_thread_cpu_ns() < until_ns) {
    }
    if (++*turns < PLACING_TURNS) {
        op_wake(op);
        return ERR_PENDING;
    }
    return ERR_OK;
}

/* The time for placing a run's files is its own, not that of the run that has the next turn. */
static void test_files_are_charged(void **state) {
    (void)state;
    unsigned turns = 0;
    struct file *files;
    const struct memory_options options = {.bytes_max = MIB};
    assert_int_equal(memory_new(&options, &files), ERR_OK);
    fixture.hooks.place_files = place_slowly;
    fixture.hooks.context = &turns;
    again_with(&fixture_options);
    struct run *run = start(guest_hello, (struct run_request){.files = files});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(turns, PLACING_TURNS);
    assert_true(status.cpu_ns >= (uint64_t)PLACING_TURNS * PLACING_NS);
    run_unref(run);
    file_unref(files);
}

/* Never done, and computes all the time. */
static enum err place_for_ever(void *context, struct op *op, struct run *run, void *tree,
                               struct buf *message) {
    unsigned turns = 0;
    (void)context;
    op_wake(op);
    return place_slowly(&turns, op, run, tree, message);
}

static void test_placing_is_limited(void **state) {
    (void)state;
    struct file *files;
    const struct memory_options options = {.bytes_max = MIB};
    assert_int_equal(memory_new(&options, &files), ERR_OK);
    fixture.hooks.place_files = place_for_ever;
    again_with(&fixture_options);
    struct run *run =
        start(guest_hello, (struct run_request){.files = files, .limits = {.cpu_ns = NS_PER_MS}});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.reason, RUN_REASON_CPU);
    assert_int_equal(status.started_ns, 0);
    run_unref(run);
    file_unref(files);
}

static enum err make_tree_in_vain(void *context, struct op *op, struct run *run, struct ns **ret_ns,
                                  void **ret_tree, struct buf *message) {
    (void)ret_ns;
    unsigned turns = 0;
    if (op->state) {
        return op_finish(op, ERR_IO);
    }
    (void)place_slowly(&turns, op, run, ret_tree, message);
    op_set_state(op, context, fixture_no_wake);
    return ERR_PENDING;
}

/* One that fails before it has a guest has used what it has used. */
static void test_failing_is_charged(void **state) {
    (void)state;
    static char anything;
    fixture.hooks.make_tree = make_tree_in_vain;
    fixture.hooks.context = &anything;
    again_with(&fixture_options);
    struct run *run = start(guest_hello, (struct run_request){0});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.reason, RUN_REASON_FAILED);
    assert_true(status.cpu_ns >= PLACING_NS);
    run_unref(run);
}

static void test_tree(void **state) {
    (void)state;
    fixture_pending = 3; /* make_tree and commit_tree wait */
    struct run *run = start(guest_hello, (struct run_request){0});
    fixture_wait(&fixture, run);
    fixture_pending = 0;
    struct file *root;
    assert_int_equal(run_root(run, &root), ERR_NOENT);
    assert_int_equal(fixture_trees, 0);
    run_unref(run);
    run = start(guest_hello, (struct run_request){.root = STR("fresh")});
    fixture_wait(&fixture, run);
    assert_int_equal(run_root(run, &root), ERR_OK);
    file_unref(root);
    assert_int_equal(fixture_trees, 1);
    run_unref(run);

    fixture_tree_error = ERR_IO;
    run = start(guest_hello, (struct run_request){0});
    struct run_status status = fixture_wait(&fixture, run);
    assert_int_equal(status.reason, RUN_REASON_FAILED);
    assert_int_equal(status.failure, ERR_IO);
    assert_string_equal(fixture_output(&fixture, run, RUN_STDERR),
                        "0asm: cannot start: no tree today\n");
    run_unref(run);
    fixture_tree_error = ERR_OK;

    /* What could not be saved is no success. */
    fixture_commit_error = ERR_IO;
    run = start(guest_hello, (struct run_request){0});
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_FAILED);
    run_unref(run);
    fixture_commit_error = ERR_OK;

    /* Killed while its tree is being made. */
    fixture_pending = 1000000;
    run = start(guest_hello, (struct run_request){0});
    for (int i = 0; i < 100; i++) {
        loop_turn(fixture.loops[0]);
    }
    run_kill(run, RUN_REASON_KILLED);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_KILLED);
    fixture_pending = 0;
    run_unref(run);
}

/* However many compute, a newcomer has its turn. */
static void test_fairness(void **state) {
    (void)state;
    struct app *loops = fixture_app(&fixture, "loops", guest_loop, NULL);
    struct app *hello = fixture_app(&fixture, "hello", guest_hello, NULL);
    struct run_request request = {.app = loops};
    struct run *runs[8];
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        runs[i] = fixture_start(&fixture, &request);
    }
    uint64_t slice_ns = 100 * NS_PER_MS;
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        /* All of them get on. */
        FIXTURE_TURN_UNTIL(&fixture, run_status(runs[i]).cpu_ns > slice_ns / 50);
    }
    request.app = hello;
    for (int i = 0; i < 10; i++) {
        struct run *run = fixture_start(&fixture, &request);
        unsigned turns = 0;
        while (run_status(run).state != RUN_ENDED) {
            loop_turn(fixture.loops[0]);
            turns++;
            /* Its program may have to be loaded the first time. */
            assert_true(i == 0 || turns <= 3);
        }
        run_unref(run);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        run_kill(runs[i], RUN_REASON_KILLED);
        fixture_wait(&fixture, runs[i]);
        run_unref(runs[i]);
    }
    app_unref(loops);
    app_unref(hello);
}

/* What a prompt run has answered leaves before the others' next slice: unless the machine was slow,
 * none of them computes in the turn of the loop in which it ends. */
static void test_answers_before_slices(void **state) {
    (void)state;
    struct app *loops = fixture_app(&fixture, "loops", guest_loop, NULL);
    struct app *hello = fixture_app(&fixture, "hello", guest_hello, NULL);
    struct run_request request = {.app = loops};
    struct run *computing = fixture_start(&fixture, &request);
    FIXTURE_TURN_UNTIL(&fixture, run_status(computing).cpu_ns > 2 * NS_PER_MS);
    request.app = hello;
    bool waited = false;
    for (int i = 0; i < 1000 && !waited; i++) {
        struct run *run = fixture_start(&fixture, &request);
        uint64_t before_ns = 0;
        while (run_status(run).state != RUN_ENDED) {
            before_ns = run_status(computing).cpu_ns;
            loop_turn(fixture.loops[0]);
        }
        waited = run_status(computing).cpu_ns == before_ns;
        run_unref(run);
    }
    assert_true(waited);
    run_kill(computing, RUN_REASON_KILLED);
    fixture_wait(&fixture, computing);
    run_unref(computing);
    app_unref(loops);
    app_unref(hello);
}

/* Twenty runs of one app, one of another. */
struct crowd {
    struct app *apps[2];
    struct run *many[20], *one;
};

static void start_crowd(struct crowd *crowd, const char *text) {
    crowd->apps[0] = fixture_app(&fixture, "crowd", text, NULL);
    crowd->apps[1] = fixture_app(&fixture, "single", text, NULL);
    struct run_request request = {.app = crowd->apps[0]};
    for (size_t i = 0; i < ARRAY_LENGTH(crowd->many); i++) {
        crowd->many[i] = fixture_start(&fixture, &request);
    }
    request.app = crowd->apps[1];
    crowd->one = fixture_start(&fixture, &request);
}

static void end_crowd(struct crowd *crowd) {
    for (size_t i = 0; i < ARRAY_LENGTH(crowd->many); i++) {
        run_kill(crowd->many[i], RUN_REASON_KILLED);
        fixture_wait(&fixture, crowd->many[i]);
        run_unref(crowd->many[i]);
    }
    run_kill(crowd->one, RUN_REASON_KILLED);
    fixture_wait(&fixture, crowd->one);
    run_unref(crowd->one);
    app_unref(crowd->apps[0]);
    app_unref(crowd->apps[1]);
}

/* Apps share a loop, not their runs: one that computes has every other slice, beside twenty. */
static void test_share_of_slices(void **state) {
    (void)state;
    enum { TURNS = 100 };
    struct crowd crowd;
    start_crowd(&crowd, guest_loop);
    for (size_t i = 0; i < ARRAY_LENGTH(crowd.many); i++) {
        FIXTURE_TURN_UNTIL(&fixture, run_status(crowd.many[i]).cpu_ns > NS_PER_MS);
    }
    FIXTURE_TURN_UNTIL(&fixture, run_status(crowd.one).cpu_ns > NS_PER_MS);
    unsigned slices = 0;
    for (int i = 0; i < TURNS; i++) {
        uint64_t before_ns = run_status(crowd.one).cpu_ns;
        loop_turn(fixture.loops[0]);
        slices += run_status(crowd.one).cpu_ns != before_ns;
    }
    assert_in_range(slices, TURNS / 2 - 1, TURNS / 2 + 1);
    end_crowd(&crowd);
}

/* The same of runs that call the host all the time. */
static void test_share_of_calls(void **state) {
    (void)state;
    static const char guest_calls[] = "(module " FIXTURE_IMPORT(
        "fd_close",
        "(param i32) (result i32)") "(memory (export \"memory\") 1) (func (export \"_start\")"
                                    " (loop $again (drop (call $fd_close (i32.const 99))) (br "
                                    "$again))))";
    struct crowd crowd;
    start_crowd(&crowd, guest_calls);
    FIXTURE_TURN_UNTIL(&fixture, run_status(crowd.one).calls > 0);
    uint64_t before = run_status(crowd.one).calls, others_before = 0, others = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(crowd.many); i++) {
        others_before += run_status(crowd.many[i]).calls;
    }
    FIXTURE_TURN_UNTIL(&fixture, run_status(crowd.one).calls > before + 200000);
    for (size_t i = 0; i < ARRAY_LENGTH(crowd.many); i++) {
        others += run_status(crowd.many[i]).calls;
    }
    assert_true(others - others_before < 800000); /* 4,000,000 if turns went round by run */
    end_crowd(&crowd);
}

static void test_log(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "logged", guest_both, NULL);
    struct run_request request = {.app = app};
    struct run *run = fixture_start(&fixture, &request);
    fixture_wait(&fixture, run);
    struct applog *log = run_applog(run);
    assert_non_null(log);
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    char text[1000];
    size_t length;
    uint64_t offset;
    assert_int_equal(
        FIXTURE_WAIT(&fixture, applog_read(&op, log, 0, text, sizeof(text) - 1, &length, &offset)),
        ERR_OK);
    text[length] = 0;
    assert_non_null(strstr(text, " out out 1\n"));
    assert_non_null(strstr(text, " err err\n"));
    assert_non_null(strstr(text, " sys ended: exit 3, "));
    assert_true(strstr(text, "out 1") < strstr(text, " err err"));
    op_done(&op);
    run_unref(run);
    app_unref(app);
}

static void test_shutdown(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.max_runs_per_app = 1;
    again_with(&options);
    struct app *app = fixture_app(&fixture, "shut", guest_cat, NULL);
    struct run_request request = {.app = app, .stdin_open = true};
    struct run *running = fixture_start(&fixture, &request);
    struct run *queued = fixture_start(&fixture, &request);
    bool finished = false;
    runs_shut_down(fixture.runs, fixture.loops[0], 3600 * NS_PER_S, fixture_finished, &finished);
    assert_int_equal(fixture_wait(&fixture, queued).reason, RUN_REASON_SHUTDOWN);
    struct run *refused;
    cleanup_buf struct buf message = {0};
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &refused, &message),
                     ERR_AGAIN);
    assert_string_equal(buf_text(&message), "the server shuts down");
    assert_false(finished);
    run_stdin_close(running); /* within its grace it may end by itself */
    assert_int_equal(fixture_wait(&fixture, running).reason, RUN_REASON_EXIT);
    FIXTURE_TURN_UNTIL(&fixture, finished);
    run_unref(running);
    run_unref(queued);
    runs_free(fixture.runs);
    fixture_make_runs(&fixture);

    running = fixture_start(&fixture, &request);
    finished = false;
    runs_shut_down(fixture.runs, fixture.loops[0], NS_PER_MS, fixture_finished, &finished);
    FIXTURE_TURN_UNTIL(&fixture, finished);
    assert_int_equal(run_status(running).reason, RUN_REASON_SHUTDOWN);
    run_unref(running);
    runs_free(fixture.runs);
    fixture_make_runs(&fixture);
    app_unref(app);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, finish)

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(test_hello),
        TEST(test_order_and_status),
        TEST(test_trap),
        TEST(test_limits),
        TEST(test_limits_only_tighten),
        TEST(test_kill),
        TEST(test_client),
        TEST(test_page_is_full),
        TEST(test_unheard),
        TEST(test_silent_for_nobody),
        TEST(test_answered),
        TEST(test_pause),
        TEST(test_stdin),
        TEST(test_backpressure),
        TEST(test_call),
        TEST(test_arguments),
        TEST(test_queue),
        TEST(test_client_leaves_queue),
        TEST(test_queue_wait),
        TEST(test_round_robin),
        TEST(test_files_are_charged),
        TEST(test_placing_is_limited),
        TEST(test_failing_is_charged),
        TEST(test_tree),
        TEST(test_fairness),
        TEST(test_answers_before_slices),
        TEST(test_share_of_slices),
        TEST(test_share_of_calls),
        TEST(test_log),
        TEST(test_shutdown),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

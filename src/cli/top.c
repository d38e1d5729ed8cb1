/* `0asm top`: the programs that run, those that compute most first, again and again. */
#include "base/clock.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

const char top_help[] =
    "CPU is the part of one processor that a run used since the last look, at first since its "
    "start; TIME and\nUSED are seconds since its start and of processor. q ends it.\n\n"
    "  -1, --once           one look, and end\n"
    "  -n, --count N        end after N looks\n"
    "  -d, --delay TIME     between two looks (2s)\n";

enum { STATE_SIZE = 16, HEAD_LINES = 3, FALLBACK_LINES = 24 };

struct row {
    char id[24];
    uint64_t number; /* the same */
    bool has_ended;
    char app[72], state[STATE_SIZE];
    uint64_t wall_us, cpu_us, memory_bytes, calls;
    uint64_t share; /* of a processor, in thousandths */
};

struct rows {
    struct row *list; /* owned; by number, then sorted for showing */
    size_t count;
};

/* What the server as a whole has done. */
struct totals {
    uint64_t running, queued, kept, resident_bytes, uptime_s;
    uint64_t started, requests; /* so far */
};

struct top {
    struct client *client;
    struct rows last;
    struct totals totals, last_totals;
    uint64_t looked_ns, last_looked_ns; /* monotonic; 0 = not yet */
    bool is_terminal;
};

/* --- asking ----------------------------------------------------------------------------------- */

static uint64_t metric(struct str text, const char *name) {
    size_t length = strlen(name);
    while (text.length > 0) {
        struct str line = str_cut(&text, '\n');
        uint64_t value;
        if (line.length > length && memcmp(line.data, name, length) == 0 &&
            line.data[length] == ' ' &&
            !str_to_u64((struct str){line.data + length + 1, line.length - length - 1}, &value)) {
            return value;
        }
    }
    return 0;
}

static bool ask_totals(struct client *client, struct totals *ret_totals) {
    cleanup_buf struct buf text = {0};
    if (!client_get(client, "/metrics", NULL, &text)) {
        return false;
    }
    struct str all = buf_str(&text);
    *ret_totals = (struct totals){
        .running = metric(all, "zasm_runs_running"),
        .queued = metric(all, "zasm_runs_queued"),
        .kept = metric(all, "zasm_runs_kept"),
        .resident_bytes = metric(all, "zasm_resident_bytes"),
        .uptime_s = metric(all, "zasm_uptime_seconds"),
        .started = metric(all, "zasm_runs_started_total"),
        .requests = metric(all, "zasm_http_requests_total"),
    };
    return true;
}

static uint64_t fact_number(struct str status, const char *name) {
    uint64_t number = 0;
    return str_to_u64(text_fact(status, name), &number) ? 0 : number;
}

/* A fact as text that a terminal can bear, cut. */
static void fact_text(struct str status, const char *name, char *ret_text, size_t size) {
    cleanup_buf struct buf escaped = {0};
    text_escape(text_fact(status, name), false, &escaped);
    snprintf(ret_text, size, "%s", buf_text(&escaped));
}

static bool ask_row(struct client *client, struct row *row) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf text = {0};
    cli_check(buf_printf(&target, "/proc/%s/status", row->id));
    struct client_request request = {
        .method = "GET", .target = buf_text(&target), .gather = &text, .quiet = true};
    struct client_response response;
    if (!client_perform(client, &request, &response)) {
        row->has_ended = true;
        return response.status == 404; /* forgotten meanwhile */
    }
    struct str status = buf_str(&text);
    fact_text(status, "app", row->app, sizeof row->app);
    fact_text(status, "state", row->state, sizeof row->state);
    row->has_ended = strcmp(row->state, "ended") == 0;
    row->wall_us = fact_number(status, "wall_us");
    row->cpu_us = fact_number(status, "cpu_us");
    row->memory_bytes = fact_number(status, "memory_bytes");
    row->calls = fact_number(status, "calls");
    return true;
}

static int compare_numbers(const void *a, const void *b) {
    const struct row *one = a, *other = b;
    return one->number < other->number ? -1 : one->number > other->number;
}

static bool ask_ids(struct client *client, struct rows *ret_rows) {
    json_t *list = remote_list(client, "/proc");
    if (!list) {
        return false;
    }
    struct rows rows = {.list = calloc(json_array_size(list) + 1, sizeof *rows.list)};
    cli_check(rows.list ? ERR_OK : ERR_NOMEM);
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
        const char *id = json_string_value(json_object_get(entry, "name"));
        struct row *row = &rows.list[rows.count];
        if (id && remote_is_run_id(id) && strlen(id) < sizeof row->id &&
            !str_to_u64(str_of(id), &row->number)) {
            snprintf(row->id, sizeof row->id, "%s", id);
            rows.count++;
        }
    }
    json_decref(list);
    qsort(rows.list, rows.count, sizeof *rows.list, compare_numbers);
    *ret_rows = rows;
    return true;
}

/* What the run used since the last look, which has the same order; else since its start. */
static void set_share(struct row *row, const struct row *last, uint64_t since_us) {
    bool is_new = !last || last->wall_us == 0;
    uint64_t cpu_us = row->cpu_us - (is_new ? 0 : MIN(last->cpu_us, row->cpu_us));
    uint64_t time_us = is_new ? row->wall_us : since_us;
    row->share = time_us ? cpu_us * 1000 / time_us : 0;
}

/* Asks for all that is shown. Runs that had ended at the last look are not asked for again: of them
 * there may be thousands. */
static bool look(struct top *top, struct rows *ret_rows) {
    struct rows rows;
    top->last_totals = top->totals;
    if (!ask_totals(top->client, &top->totals) || !ask_ids(top->client, &rows)) {
        return false;
    }
    top->last_looked_ns = top->looked_ns;
    top->looked_ns = clock_monotonic_ns();
    uint64_t since_us = (top->looked_ns - top->last_looked_ns) / NS_PER_US;
    size_t at = 0;
    bool good = true;
    for (size_t i = 0; good && i < rows.count; i++) {
        struct row *row = &rows.list[i];
        while (at < top->last.count && top->last.list[at].number < row->number) {
            at++;
        }
        bool is_known = at < top->last.count && top->last.list[at].number == row->number;
        const struct row *last = is_known ? &top->last.list[at] : NULL;
        if (last && last->has_ended) {
            *row = *last;
            continue;
        }
        good = ask_row(top->client, row);
        set_share(row, last, since_us);
    }
    *ret_rows = rows;
    if (!good) {
        free(rows.list);
    }
    return good;
}

/* --- showing ---------------------------------------------------------------------------------- */

/* Those that run first, by share, memory and age. */
static int compare_shares(const void *a, const void *b) {
    const struct row *one = *(const struct row *const *)a, *other = *(const struct row *const *)b;
    if (one->share != other->share) {
        return one->share > other->share ? -1 : 1;
    }
    if (one->memory_bytes != other->memory_bytes) {
        return one->memory_bytes > other->memory_bytes ? -1 : 1;
    }
    return compare_numbers(one, other);
}

static void print_rate(const char *what, uint64_t now, uint64_t before, uint64_t time_ns) {
    if (time_ns) {
        printf(", %.1f %s/s", (double)(now - MIN(before, now)) * NS_PER_S / (double)time_ns, what);
    }
}

static void print_totals(const struct top *top) {
    const struct totals *now = &top->totals, *last = &top->last_totals;
    bool has_last = top->last_looked_ns != 0;
    uint64_t time_ns =
        has_last ? top->looked_ns - top->last_looked_ns : MAX(now->uptime_s, 1u) * NS_PER_S;
    char memory[TEXT_BYTES_SIZE];
    text_format_bytes(now->resident_bytes, memory);
    printf("up %" PRIu64 " s: %" PRIu64 " running, %" PRIu64 " queued, %" PRIu64 " kept",
           now->uptime_s, now->running, now->queued, now->kept);
    print_rate("runs", now->started, last->started, time_ns);
    print_rate("requests", now->requests, last->requests, time_ns);
    printf(", %s\n\n", memory);
}

static void print_row(const struct row *row) {
    char memory[TEXT_BYTES_SIZE];
    text_format_bytes(row->memory_bytes, memory);
    printf("%-8s %-24.24s %-9s %5" PRIu64 ".%" PRIu64 "%% %9.2f %9.2f %11s %10" PRIu64 "\n",
           row->id, row->app, row->state, row->share / 10, row->share % 10,
           (double)row->wall_us / 1e6, (double)row->cpu_us / 1e6, memory, row->calls);
}

static size_t lines_of_terminal(void) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > HEAD_LINES + 1;
    return known ? size.ws_row : FALLBACK_LINES;
}

static bool show(const struct top *top, const struct rows *rows) {
    const struct row **sorted = calloc(rows->count + 1, sizeof(const struct row *));
    cli_check(sorted ? ERR_OK : ERR_NOMEM);
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (!rows->list[i].has_ended) {
            sorted[count++] = &rows->list[i];
        }
    }
    qsort(sorted, count, sizeof *sorted, compare_shares);
    if (top->is_terminal) {
        fputs("\033[H\033[J", stdout);
        count = MIN(count, lines_of_terminal() - HEAD_LINES - 1);
    } else if (top->last_looked_ns) {
        putchar('\n');
    }
    print_totals(top);
    printf("%-8s %-24s %-9s %8s %9s %9s %11s %10s\n", "ID", "APP", "STATE", "CPU", "TIME", "USED",
           "MEMORY", "CALLS");
    for (size_t i = 0; i < count; i++) {
        print_row(sorted[i]);
    }
    free(sorted);
    if (fflush(stdout) == 0) {
        return true;
    }
    cli_error("standard output can't be written: %s", strerror(errno));
    return false;
}

/* --- the terminal ----------------------------------------------------------------------------- */

static struct termios terminal_before;
static bool terminal_changed;
static volatile sig_atomic_t is_interrupted;

static void on_signal(int number) {
    (void)number;
    is_interrupted = 1;
}

/* Keys come at once and are not shown. */
static void take_terminal(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++) {
        sigaction(numbers[i], &action, NULL);
    }
    if (tcgetattr(STDIN_FILENO, &terminal_before) == 0) {
        struct termios terminal = terminal_before;
        terminal.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        terminal_changed = tcsetattr(STDIN_FILENO, TCSANOW, &terminal) == 0;
    }
}

static void give_terminal_back(void) {
    if (terminal_changed) {
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
    }
}

/* False if it is to end: q was pressed, or a signal came. */
static bool wait_for_next(uint64_t delay_ns) {
    uint64_t end_ns = clock_monotonic_ns() + delay_ns;
    for (;;) {
        uint64_t now_ns = clock_monotonic_ns();
        if (is_interrupted) {
            return false;
        }
        if (now_ns >= end_ns) {
            return true;
        }
        struct pollfd keys = {.fd = terminal_changed ? STDIN_FILENO : -1, .events = POLLIN};
        uint64_t left_ms = (end_ns - now_ns) / NS_PER_MS + 1;
        if (poll(&keys, 1, (int)MIN(left_ms, (uint64_t)60000)) > 0) {
            char key = 'q';
            ssize_t got = read(STDIN_FILENO, &key, 1);
            if (got <= 0 || key == 'q' || key == 'Q') {
                return false;
            }
            return true; /* another key: look now */
        }
    }
}

/* --- the command ------------------------------------------------------------------------------ */

static bool run_top(struct top *top, uint64_t count, uint64_t delay_ns) {
    bool good = true;
    for (uint64_t i = 0; good && i < count; i++) {
        if (i > 0 && !wait_for_next(delay_ns)) {
            break;
        }
        struct rows rows;
        good = look(top, &rows);
        if (good) {
            good = show(top, &rows);
            free(top->last.list);
            top->last = rows;
        }
    }
    free(top->last.list);
    return good;
}

int top_main(int argc, char **argv) {
    bool once = false;
    const char *count_text = NULL, *delay_text = NULL;
    const struct argument_option options[] = {
        {.name = "once", .letter = '1', .flag = &once},
        {.name = "count", .letter = 'n', .text = &count_text},
        {.name = "delay", .letter = 'd', .text = &delay_text},
    };
    struct arguments arguments = {
        .command = COMMAND_ROW(top), .options = options, .option_count = ARRAY_LENGTH(options)};
    int status = arguments_parse(&arguments, argc, argv);
    uint64_t count = once ? 1 : UINT64_MAX, delay_ns = 2 * NS_PER_S;
    if (!status && count_text && (str_to_u64(str_of(count_text), &count) || count == 0)) {
        status = command_misused(arguments.command, "'%s' is no number of looks", count_text);
    }
    if (!status && delay_text &&
        (str_to_duration_ns(str_of(delay_text), &delay_ns) || delay_ns < 50 * NS_PER_MS)) {
        status = command_misused(arguments.command, "'%s' is no time of 50ms or more", delay_text);
    }
    if (!status) {
        struct top top = {.client = client_new(arguments.server),
                          .is_terminal = isatty(STDOUT_FILENO) && count > 1};
        if (top.client && isatty(STDIN_FILENO) && count > 1) {
            take_terminal();
        }
        status = top.client && run_top(&top, count, delay_ns) ? 0 : 1;
        give_terminal_back();
        client_free(top.client);
    }
    arguments_done(&arguments);
    return status;
}

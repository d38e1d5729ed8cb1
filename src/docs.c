#include "docs.h"

#include "api/api.h"
#include "serve_options.h"
#include "store/app_config.h"

#include <inttypes.h>
#include <stdio.h>

/* A cell of a table: what would end it is escaped. */
static void print_cell(const char *text) {
    for (; *text; text++) {
        if (*text == '|') {
            putchar('\\');
        }
        putchar(*text);
    }
}

/* --- routes ----------------------------------------------------------------------------------- */

static void print_routes(void) {
    printf("| request | what it does |\n|---|---|\n");
    for (size_t i = 0; i < route_count; i++) {
        printf("| `");
        print_cell(routes[i].usage);
        printf("` | ");
        print_cell(routes[i].help);
        printf("%s |\n", routes[i].role == ROLE_PUBLIC ? " (no token needed)" : "");
    }
}

/* --- limits ----------------------------------------------------------------------------------- */

static void print_bytes(uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (unit + 1 < ARRAY_LENGTH(units) && bytes && bytes % KIB == 0) {
        bytes /= KIB;
        unit++;
    }
    printf("%" PRIu64 " %s", bytes, unit == 0 && bytes == 1 ? "byte" : units[unit]);
}

static void print_duration(uint64_t ns) {
    static const struct {
        uint64_t ns;
        const char *text;
    } units[] = {{UINT64_C(86400) * NS_PER_S, "d"},
                 {UINT64_C(3600) * NS_PER_S, "h"},
                 {UINT64_C(60) * NS_PER_S, "min"},
                 {NS_PER_S, "s"}};
    for (size_t i = 0; i < ARRAY_LENGTH(units); i++) {
        if (ns > 0 && ns % units[i].ns == 0) {
            printf("%" PRIu64 " %s", ns / units[i].ns, units[i].text);
            return;
        }
    }
    printf("%" PRIu64 " ms", ns / NS_PER_MS);
}

static void print_number(enum option_kind kind, uint64_t number) {
    if (kind == OPTION_BYTES) {
        print_bytes(number);
    } else if (kind == OPTION_DURATION) {
        print_duration(number);
    } else {
        printf("%" PRIu64, number);
    }
}

/* What happens at a limit: for each option of the groups that are limits, or the page can't be
 * made. */
/* clang-format off */
static const struct effect {
    const char *option, *text;
} effects[] = {
    {"memory", "`memory.grow` fails, so that the program's `malloc` does; a program that gives up then ends with reason `memory` or its own exit status. One whose beginning needs more is refused: 413"},
    {"wall", "the run ends: reason `wall`, exit 137. Of a program that is kept it is the time to answer a request: 504, and one that [has done nothing else](web.md#what-holds-for-both) meanwhile ends: reason `hung`, exit 137"},
    {"detached-wall", "the run ends: reason `wall`, exit 137"},
    {"unheard", "the run ends: reason `client`, exit 137. Not one that is kept"},
    {"cpu", "the run ends: reason `cpu`, exit 137. A program that is kept has no such limit: `wall` counts"},
    {"output", "the run ends: reason `output`, exit 137; what fits is delivered. A web page does not end: so much of it waits while its request still comes, then it is sent"},
    {"open-files", "opening one more fails: `nfile`"},
    {"tmp", "writing fails: `nospc`"},
    {"core", "there is none, and the run's last words say so"},
    {"net-timeout", "the request fails: `io`, or 504 over `/net/request`"},
    {"net-bytes", "the transfer fails: `io`; writing a body beyond it: `inval`"},
    {"disk", "writing fails: `nospc`; from outside 507"},
    {"files", "making one more fails: `nospc`; from outside 507"},
    {"max-runs", "one more waits in the queue"},
    {"queue", "one more is refused: 429 with Retry-After"},
    {"queue-wait", "the run is given up: 429 with Retry-After"},
    {"net-connections", "one more fails: `busy`, or 503 over `/net/request`"},
    {"log-bytes", "the oldest part is cut; a reader is told so in its place"},
    {"log-age", "the oldest part is cut; a reader is told so in its place"},
    {"runs", "one more waits in its app's queue"},
    {"keep", "the run is forgotten: 404"},
    {"kept-runs", "the run that ended first is forgotten; of those that programs started while these have more than half, there of the app that has the most: 404"},
    {"kept-bytes", "the run that ended first is forgotten; of those that programs started while these have more than half, there of the app that has the most: 404. An open file of one (output beyond 256 KiB, a core dump) counts besides, so that all of them have no more than a quarter of the descriptors"},
    {"kept-cores", "the oldest core dump goes: 404"},
    {"upload", "413"},
    {"module", "413"},
    {"compile-time", "413"},
    {"compile-memory", "413"},
    {"compile-at-once", "one more waits"},
    {"connections", "one more waits. Each loop that listens has its part, which may be full while another's is not; with `--web`, each of the two addresses has as many"},
    {"connections-per-address", "one more is closed; each loop counts its own"},
    {"head-timeout", "the connection is closed"},
    {"body-timeout", "the connection is closed; what was uploaded so far is dropped"},
};
/* clang-format on */

static const char *effect_of(const char *option) {
    for (size_t i = 0; i < ARRAY_LENGTH(effects); i++) {
        if (strcmp(effects[i].option, option) == 0) {
            return effects[i].text;
        }
    }
    fprintf(stderr, "error: src/docs.c does not say what happens at --%s\n", option);
    return NULL;
}

static int print_serve_options(void) {
    const char *group = "";
    for (size_t i = 0; i < serve_option_count; i++) {
        const struct option_row *row = &serve_option_rows[i];
        if (strcmp(row->group, "The server") == 0) {
            continue; /* these are no limits */
        }
        const char *effect = effect_of(row->name);
        if (!effect) {
            return 1;
        }
        if (strcmp(row->group, group) != 0) {
            printf("%s### %s\n\n", group[0] ? "\n" : "", row->group);
            printf("| option | limits | default | from, to | what happens there |\n"
                   "|---|---|---|---|---|\n");
            group = row->group;
        }
        printf("| `--%s` | ", row->name);
        print_cell(row->help);
        printf(" | %s | ", row->initial);
        print_number(row->kind, row->least);
        printf(", ");
        print_number(row->kind, row->most);
        printf(" | %s |\n", effect);
    }
    return 0;
}

static void print_app_options(void) {
    printf("| key | as an option | what it is | values |\n|---|---|---|---|\n");
    for (const struct app_config_key *key = app_config_keys; key->name; key++) {
        printf("| `%s` | `%s=` | ", key->name, key->option ? key->option : key->name);
        print_cell(key->help);
        printf(" | ");
        switch (key->kind) {
        case APP_CONFIG_CHOICE: {
            struct str rest = str_of(key->choices);
            for (bool first = true; rest.length > 0; first = false) {
                struct str word = str_cut(&rest, ' ');
                printf("%s`" STR_FORMAT "`", first ? "" : ", ", STR_ARGS(word));
            }
            break;
        }
        case APP_CONFIG_BYTES:
            print_bytes(key->min);
            printf(" to ");
            print_bytes(key->max);
            break;
        case APP_CONFIG_DURATION:
            print_duration(key->min);
            printf(" to ");
            print_duration(key->max);
            break;
        case APP_CONFIG_COUNT:
            printf("%" PRIu64 " to %" PRIu64, key->min, key->max);
            break;
        case APP_CONFIG_ROOT:
            printf("`keep`, `fresh`, `ro`, or a volume's name");
            break;
        case APP_CONFIG_RANGE:
            printf("`N` or `MIN..MAX`, %" PRIu64 " to %" PRIu64, key->min, key->max);
            break;
        case APP_CONFIG_ARGUMENTS:
            printf("text; may be repeated");
            break;
        case APP_CONFIG_ENVIRONMENT:
            printf("`KEY=VALUE`; may be repeated");
            break;
        case APP_CONFIG_MOUNTS:
            printf("`VOLUME:/PATH`, `VOLUME:/PATH:ro`; may be repeated");
            break;
        case APP_CONFIG_NET:
            printf("`public`, `none`, or hosts with or without a port; may be repeated");
            break;
        }
        printf(" |\n");
    }
}

/* --- errors ----------------------------------------------------------------------------------- */

static void print_errors(void) {
    printf("| error | number in WASI | status | meaning |\n|---|---|---|---|\n");
    for (int number = ERR_OK + 1; number <= ERR_NOTCAPABLE; number++) {
        enum err err = (enum err)number;
        printf("| `%s` | %d | %d | %s |\n", err_name(err), number, err_http_status(err),
               err_text(err));
    }
}

int docs_main(const char *name) {
    if (strcmp(name, "routes") == 0) {
        print_routes();
    } else if (strcmp(name, "serve-options") == 0) {
        return print_serve_options();
    } else if (strcmp(name, "app-options") == 0) {
        print_app_options();
    } else if (strcmp(name, "errors") == 0) {
        print_errors();
    } else if (strcmp(name, "man") == 0) {
        docs_print_man();
    } else {
        fprintf(stderr,
                "error: no part '%s'; there are routes, serve-options, app-options, errors "
                "and man\n",
                name);
        return 2;
    }
    return 0;
}

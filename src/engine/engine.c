#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "engine/internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Mappings that the kernel keeps for a sandbox: two of its stack (with the guard page), and up to
 * four of its memory (image, more than the image, what is not grown yet, guard). */
enum { MAPPINGS_EACH = 6, MAPPINGS_ELSE = 2000 };

/* --- the ticker --- */

enum ticker_state { TICKER_AWAKE, TICKER_ASLEEP, TICKER_STOP };
enum { TICKS_BEFORE_SLEEP = 50 };
/* While no guest is in its way for longer than a tick, the ticks are so many times as far apart:
 * waking up a thread costs more than a short run. */
enum { RARE_TICKS = 4 };

static void futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void engine_tick(struct engine *engine) {
    wasmtime_engine_increment_epoch(engine->wasm);
    atomic_fetch_add(&engine->ticks, 1);
}

static void *ticker_run(void *argument) {
    struct engine *engine = argument;
    thread_set_name("ticker");
    unsigned idle_ticks = 0;
    uint32_t overruns = 0;
    while (atomic_load(&engine->ticker_state) != TICKER_STOP) {
        uint32_t overruns_now = atomic_load_explicit(&engine->overruns, memory_order_relaxed);
        uint64_t pause_ns = engine->tick_ns * (overruns == overruns_now ? RARE_TICKS : 1);
        overruns = overruns_now;
        struct timespec pause = {.tv_sec = (time_t)(pause_ns / NS_PER_S),
                                 .tv_nsec = (long)(pause_ns % NS_PER_S)};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        if (atomic_load(&engine->running) != 0) {
            idle_ticks = 0;
            engine_tick(engine);
            continue;
        }
        if (++idle_ticks < TICKS_BEFORE_SLEEP) {
            continue;
        }
        idle_ticks = 0;
        /* engine_enter first counts, then looks at the state; here it is the other way round: one
         * of the two sees the other. */
        uint32_t awake = TICKER_AWAKE;
        if (!atomic_compare_exchange_strong(&engine->ticker_state, &awake, TICKER_ASLEEP)) {
            break;
        }
        while (atomic_load(&engine->running) == 0 &&
               atomic_load(&engine->ticker_state) == TICKER_ASLEEP) {
            futex(&engine->ticker_state, FUTEX_WAIT, TICKER_ASLEEP);
        }
        uint32_t asleep = TICKER_ASLEEP;
        atomic_compare_exchange_strong(&engine->ticker_state, &asleep, TICKER_AWAKE);
    }
    return NULL;
}

void engine_enter(struct engine *engine) {
    atomic_fetch_add(&engine->running, 1);
    if (atomic_load(&engine->ticker_state) == TICKER_ASLEEP) {
        uint32_t asleep = TICKER_ASLEEP;
        atomic_compare_exchange_strong(&engine->ticker_state, &asleep, TICKER_AWAKE);
        futex(&engine->ticker_state, FUTEX_WAKE, 1);
    }
}

void engine_leave(struct engine *engine) {
    atomic_fetch_sub_explicit(&engine->running, 1, memory_order_release);
}

static void ticker_stop(struct engine *engine) {
    if (!engine->ticker_started) {
        return;
    }
    atomic_store(&engine->ticker_state, TICKER_STOP);
    futex(&engine->ticker_state, FUTEX_WAKE, 1);
    pthread_join(engine->ticker, NULL);
    engine->ticker_started = false;
}

/* --- the pool --- */

/* Wasmtime ends the process when the pool can't be made, so the same is tried here first. */
static enum err check_address_space(const struct engine_options *options, struct buf *message) {
    uint64_t each = MEMORY_RESERVATION_BYTES + MEMORY_GUARD_BYTES + ASYNC_STACK_BYTES +
                    (uint64_t)TABLES_MAX * TABLE_ELEMENTS_MAX * sizeof(void *) + MIB;
    uint64_t bytes;
    if (__builtin_mul_overflow(each, (uint64_t)options->sandboxes_max + 1, &bytes) ||
        bytes > SIZE_MAX) {
        return buf_fail(message, ERR_INVAL, "%u sandboxes are too many", options->sandboxes_max);
    }
    void *probe =
        mmap(NULL, (size_t)bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) {
        return buf_fail(message, ERR_NOMEM,
                        "%u sandboxes need %llu GiB of address space, which this machine does not "
                        "give; lower their number (or raise ulimit -v)",
                        options->sandboxes_max, (unsigned long long)(bytes / GIB));
    }
    munmap(probe, (size_t)bytes);

    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    unsigned long long mappings = 0;
    if (file) {
        if (fscanf(file, "%llu", &mappings) != 1) {
            mappings = 0;
        }
        fclose(file);
    }
    unsigned long long needed =
        (unsigned long long)options->sandboxes_max * MAPPINGS_EACH + MAPPINGS_ELSE;
    if (mappings != 0 && mappings < needed) {
        return buf_fail(message, ERR_NOMEM,
                        "%u sandboxes need %llu memory mappings, the kernel allows %llu; lower "
                        "their number, or: sysctl vm.max_map_count=%llu",
                        options->sandboxes_max, needed, mappings, needed);
    }
    return ERR_OK;
}

static wasm_engine_t *new_pooled(const struct engine_options *options) {
    uint32_t count = options->sandboxes_max;
    wasmtime_pooling_allocation_config_t *pool = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(pool, count);
    wasmtime_pooling_allocation_config_total_memories_set(pool, count);
    wasmtime_pooling_allocation_config_total_stacks_set(pool, count);
    /* Nearly all modules have one table. */
    wasmtime_pooling_allocation_config_total_tables_set(pool, count + count / 4 + TABLES_MAX);
    wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, TABLES_MAX);
    wasmtime_pooling_allocation_config_table_elements_set(pool, TABLE_ELEMENTS_MAX);
    wasmtime_pooling_allocation_config_max_memory_size_set(pool, options->memory_max_bytes);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(
        pool, options->keep_resident_bytes);
    wasmtime_pooling_allocation_config_table_keep_resident_set(pool, 16 * KIB);
    /* A slot that a program has used before is the cheapest for its next run. */
    wasmtime_pooling_allocation_config_max_unused_warm_slots_set(pool, MIN(count, 1000));

    wasm_config_t *config = engine_config_new();
    wasmtime_pooling_allocation_strategy_set(config, pool);
    wasmtime_pooling_allocation_config_delete(pool);
    return wasm_engine_new_with_config(config);
}

/* --- where the stacks are --- */

static wasm_trap_t *note_stack(void *environment, wasmtime_caller_t *caller,
                               wasmtime_val_raw_t *values, size_t count) {
    (void)environment;
    (void)values;
    (void)count;
    uintptr_t *ret_address = wasmtime_context_get_data(wasmtime_caller_context(caller));
    *ret_address = (uintptr_t)__builtin_frame_address(0);
    return NULL;
}

/* Pages of a fiber's stack stay resident when it goes back to the pool, so one deep recursion in
 * each slot would keep half a MiB each for ever. To give such pages back, the bounds of a stack
 * must be known exactly (what lies below is a neighbour's). The pool lays them out evenly, so one
 * of them, found in the list of mappings between its guard pages, tells all others. */
static void find_stacks(struct engine *engine) {
    uintptr_t address = 0;
    wasmtime_store_t *store = wasmtime_store_new(engine->wasm, &address, NULL);
    wasmtime_context_t *context = wasmtime_store_context(store);
    wasmtime_context_epoch_deadline_async_yield_and_update(context, 1);
    wasm_functype_t *type = wasm_functype_new_0_0();
    wasmtime_func_t function;
    wasmtime_func_new_unchecked(context, type, note_stack, NULL, NULL, &function);
    wasm_functype_delete(type);
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = NULL;
    wasmtime_call_future_t *future =
        wasmtime_func_call_async(context, &function, NULL, 0, NULL, 0, &trap, &error);
    while (!wasmtime_call_future_poll(future)) {
    }
    wasmtime_call_future_delete(future);
    if (trap) {
        wasm_trap_delete(trap);
    }
    if (error) {
        wasmtime_error_delete(error);
    }

    FILE *maps = address ? fopen("/proc/self/maps", "re") : NULL;
    if (maps) {
        char *line = NULL;
        size_t capacity = 0;
        while (getline(&line, &capacity, maps) >= 0) {
            unsigned long start, end;
            char permissions[5];
            if (sscanf(line, "%lx-%lx %4s", &start, &end, permissions) == 3 && start <= address &&
                address < end) {
                if (end - start == ASYNC_STACK_BYTES && permissions[1] == 'w') {
                    engine->stack_anchor = start;
                    engine->stack_stride = ASYNC_STACK_BYTES + (uintptr_t)sysconf(_SC_PAGESIZE);
                }
                break;
            }
        }
        free(line);
        fclose(maps);
    }
    if (!engine->stack_anchor) {
        log_debug("engine: the stacks of fibers were not found; deep ones stay resident");
    }
    wasmtime_store_delete(store);
}

/* --- */

enum err engine_new(const struct engine_options *options, struct engine **ret_engine,
                    struct buf *message) {
    if (options->sandboxes_max == 0 || options->memory_max_bytes < 64 * KIB ||
        options->memory_max_bytes > MEMORY_RESERVATION_BYTES) {
        return buf_fail(message, ERR_INVAL,
                        "an engine needs at least one sandbox, of 64 KiB to 4 GiB of memory");
    }
    enum err err = check_address_space(options, message);
    if (err) {
        return err;
    }
    struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    err = op_queue_init(&engine->compile_waiters);
    if (err) {
        free(engine);
        return buf_fail(message, err, "%s", err_text(err));
    }
    pthread_mutex_init(&engine->compile_mutex, NULL);
    engine->memory_max_bytes = options->memory_max_bytes;
    engine->tick_ns = options->tick_ns ? options->tick_ns : NS_PER_MS;
    engine->wasm = new_pooled(options);
    random_bytes(&engine->stack_mark, sizeof(engine->stack_mark));
    find_stacks(engine);
    int failure = pthread_create(&engine->ticker, NULL, ticker_run, engine);
    if (failure) {
        engine_free(engine);
        return buf_fail(message, err_from_errno(failure), "no thread for the epoch: %s",
                        strerror(failure));
    }
    engine->ticker_started = true;
    *ret_engine = engine;
    return ERR_OK;
}

void engine_free(struct engine *engine) {
    if (!engine) {
        return;
    }
    ticker_stop(engine);
    INVARIANT(engine->compiling == 0);
    op_queue_done(&engine->compile_waiters);
    pthread_mutex_destroy(&engine->compile_mutex);
    wasm_engine_delete(engine->wasm);
    free(engine);
}

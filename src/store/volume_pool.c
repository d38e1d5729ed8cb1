/* The threads that commit volumes: a few for the whole process, started when there is work and kept
 * for good. A volume is with one of them at a time. Each dirty volume has a deadline. */
#include "store/volume_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <signal.h>
#include <time.h>

/* Many volumes may wait for the disk at the same time. */
#define THREADS_MAX 8
#define THREAD_STACK_BYTES (512 * KIB)
/* Garbage is removed a piece at a time with a pause, in which others get at the volume. */
#define REAP_PAUSE_NS (10 * NS_PER_MS)

static struct {
    pthread_mutex_t mutex; /* guards all of this, and the pool_ members of volumes */
    pthread_cond_t wake;   /* on the monotonic clock */
    pthread_cond_t finished;
    struct list ready, timed;
    unsigned threads, idle;
    bool has_keeper; /* one idle thread waits for the next deadline */
} pool = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .finished = PTHREAD_COND_INITIALIZER,
    .ready = {&pool.ready, &pool.ready},
    .timed = {&pool.timed, &pool.timed},
};
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static void pool_init(void) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* The volume to work on now, or NULL. */
static struct volume *take(void) {
    struct list *link = NULL;
    if (!list_is_empty(&pool.ready)) {
        link = pool.ready.next;
    } else if (!list_is_empty(&pool.timed)) {
        struct volume *first = CONTAINER_OF(pool.timed.next, struct volume, pool_link);
        if (first->pool_deadline_ns <= clock_monotonic_ns()) {
            link = pool.timed.next;
        }
    }
    if (!link) {
        return NULL;
    }
    list_remove(link);
    struct volume *volume = CONTAINER_OF(link, struct volume, pool_link);
    volume->pool_state = POOL_WORKING;
    return volume;
}

static void rest(void) {
    pool.idle++;
    if (!pool.has_keeper && !list_is_empty(&pool.timed)) {
        uint64_t deadline =
            CONTAINER_OF(pool.timed.next, struct volume, pool_link)->pool_deadline_ns;
        struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_S),
                                 .tv_nsec = (long)(deadline % NS_PER_S)};
        pool.has_keeper = true;
        pthread_cond_timedwait(&pool.wake, &pool.mutex, &until);
        pool.has_keeper = false;
    } else {
        pthread_cond_wait(&pool.wake, &pool.mutex);
    }
    pool.idle--;
}

static void put_ready(struct volume *volume) {
    volume->pool_state = POOL_READY;
    list_append(&pool.ready, &volume->pool_link);
}

static void put_timed(struct volume *volume, uint64_t delay_ns) {
    volume->pool_state = POOL_TIMED;
    volume->pool_deadline_ns = clock_monotonic_ns() + delay_ns;
    /* Most have the greatest delay there is, so the place is nearly always the end. */
    struct list *place = &pool.timed;
    while (place->previous != &pool.timed &&
           CONTAINER_OF(place->previous, struct volume, pool_link)->pool_deadline_ns >
               volume->pool_deadline_ns) {
        place = place->previous;
    }
    list_insert_before(place, &volume->pool_link);
}

static void *work(void *argument);

/* Makes sure that a thread looks at the lists. */
static void call_thread(void) {
    if (pool.idle > 0) {
        pthread_cond_signal(&pool.wake);
        return;
    }
    if (pool.threads == THREADS_MAX) {
        return; /* those that work will look when they are done */
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    pthread_t thread;
    /* A signal's handler belongs to the threads that expect it. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&thread, &attributes, work, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (result == 0) {
        pool.threads++;
    } else if (pool.threads == 0) {
        log_fatal("can't start a thread that writes volumes to disk: %s", strerror(result));
    }
}

static void *work(void *argument) {
    (void)argument;
    thread_set_name("commit");
    loop_set_priority(LOOP_WORKING);
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        struct volume *volume = take();
        if (!volume) {
            rest();
            continue;
        }
        /* Somebody else has to look after what is left. */
        if (!list_is_empty(&pool.ready)) {
            call_thread();
        } else if (!list_is_empty(&pool.timed)) {
            pthread_cond_signal(&pool.wake);
        }
        pthread_mutex_unlock(&pool.mutex);
        bool more = volume_work(volume);
        pthread_mutex_lock(&pool.mutex);
        if (volume->pool_state == POOL_WORKING_AGAIN) {
            put_ready(volume);
        } else if (more) {
            put_timed(volume, REAP_PAUSE_NS);
        } else if (volume_is_dirty(volume)) {
            put_timed(volume, VOLUME_COMMIT_DELAY_NS);
        } else {
            volume->pool_state = POOL_NONE;
        }
        pthread_cond_broadcast(&pool.finished);
    }
    return NULL;
}

void volume_pool_submit(struct volume *volume) {
    pthread_once(&pool_once, pool_init);
    pthread_mutex_lock(&pool.mutex);
    if (volume->pool_state == POOL_WORKING) {
        volume->pool_state = POOL_WORKING_AGAIN;
    } else if (volume->pool_state == POOL_NONE || volume->pool_state == POOL_TIMED) {
        list_remove(&volume->pool_link);
        put_ready(volume);
        call_thread();
    }
    pthread_mutex_unlock(&pool.mutex);
}

void volume_pool_submit_later(struct volume *volume) {
    pthread_once(&pool_once, pool_init);
    pthread_mutex_lock(&pool.mutex);
    /* A worker that has it looks whether it is dirty when it is done. */
    if (volume->pool_state == POOL_NONE) {
        put_timed(volume, VOLUME_COMMIT_DELAY_NS);
        if (!pool.has_keeper) {
            call_thread();
        }
    }
    pthread_mutex_unlock(&pool.mutex);
}

void volume_pool_cancel(struct volume *volume) {
    pthread_mutex_lock(&pool.mutex);
    while (volume->pool_state == POOL_WORKING || volume->pool_state == POOL_WORKING_AGAIN) {
        pthread_cond_wait(&pool.finished, &pool.mutex);
    }
    list_remove(&volume->pool_link);
    volume->pool_state = POOL_NONE;
    pthread_mutex_unlock(&pool.mutex);
}

/* Work for the pool of threads. libuv's pool is shared by all loops; its size is set by main. */
#include "loop/loop_internal.h"

static void on_work(uv_work_t *request) {
    static _Thread_local bool has_priority;
    if (!has_priority) {
        thread_set_name("worker");
        loop_set_priority(LOOP_WORKING);
        has_priority = true;
    }
    struct loop_work *work = request->data;
    work->run(work);
}

static void on_work_done(uv_work_t *request, int status) {
    struct loop_work *work = request->data;
    INVARIANT(status == 0); /* nobody cancels */
    work->loop->work_count--;
    work->request = NULL;
    free(request);
    work->done(work);
}

static void do_nothing(uv_work_t *request) {
    (void)request;
}

static void nothing_is_done(uv_work_t *request, int status) {
    (void)request;
    (void)status;
}

void loop_start_workers(void) {
    uv_loop_t loop;
    uv_work_t request;
    if (uv_loop_init(&loop) == 0) {
        if (uv_queue_work(&loop, &request, do_nothing, nothing_is_done) == 0) {
            uv_run(&loop, UV_RUN_DEFAULT);
        }
        uv_loop_close(&loop);
    }
}

bool loop_has_works(const struct loop *loop) {
    return loop->work_count > 0;
}

enum err loop_work_start(struct loop *loop, struct loop_work *work) {
    loop_check_thread(loop);
    uv_work_t *request = malloc(sizeof *request);
    if (!request) {
        return ERR_NOMEM;
    }
    request->data = work;
    work->loop = loop;
    work->request = request;
    int result = uv_queue_work(&loop->uv, request, on_work, on_work_done);
    INVARIANT(result == 0); /* fails without a function only */
    loop->work_count++;
    return ERR_OK;
}

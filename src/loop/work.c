/* Work for the pool of threads. libuv's pool is shared by all loops; its size is set by main. */
#include "loop/loop_internal.h"

static void on_work(uv_work_t *request) {
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

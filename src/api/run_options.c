#include "api/run_options.h"

static enum err parse(struct request *request, struct run_options *options) {
    const struct query *query = &request->query;
    struct str name = request_parameter(request, "name");
    if (!name.data) {
        request_fail_status(request, 400, "say which app: POST /run?name=NAME");
        return ERR_INVAL;
    }
    enum err err = catalog_find(request->api->catalog, name, &options->app);
    if (err) {
        request_fail_status(request, 404, "no app named '" STR_FORMAT "'; GET /apps lists them",
                            STR_ARGS(name));
        return err;
    }
    for (size_t i = 0; i < query->count; i++) {
        err = run_parameters_add(&options->parameters, query->pairs[i].name, query->pairs[i].value,
                                 &request->message);
        if (err && err != ERR_NOENT) { /* there are more: `name` */
            request_fail(request, err, &request->message);
            return err;
        }
    }
    run_parameters_request(&options->parameters, &options->request);
    options->request.app = options->app;
    return ERR_OK;
}

enum err run_options_parse(struct request *request, struct run_options *ret_options) {
    *ret_options = (struct run_options){0};
    return parse(request, ret_options);
}

enum err run_options_find_version(struct request *request, struct run_options *options) {
    if (options->parameters.version_number == 0 || options->older_version) {
        return ERR_OK;
    }
    enum err err = catalog_version(&request->op, request->api->catalog, options->app,
                                   options->parameters.version_number, &options->older_version);
    if (err == ERR_NOENT) {
        request_fail_status(request, 404, "%s has no version %u; GET /apps/%s/versions lists them",
                            options->app->name, options->parameters.version_number,
                            options->app->name);
    } else if (err && err != ERR_PENDING) {
        request_fail(request, err, NULL);
    }
    options->request.version = options->older_version;
    return err;
}

void run_options_done(struct run_options *options) {
    app_unref(options->app);
    app_versions_free(options->older_version, options->older_version ? 1 : 0);
    run_parameters_done(&options->parameters);
}

/* Runs by their tags: GET and DELETE of /proc?tag=KEY:VALUE. Layer: run. */
#pragma once

#include "api/api.h"

/* Whether a run has every tag that the query asks for with `tag=`. */
bool proc_is_selected(const struct request *request, const struct run *run);
/* False, and answered, if the request is for /proc and names a tag that no run can have. */
bool proc_check_selection(struct request *request);
/* Leaves in a listing of /proc the runs that are selected; nothing if the request is for another
 * path, or names no tag. */
void proc_select(const struct request *request, struct dir_list *list);

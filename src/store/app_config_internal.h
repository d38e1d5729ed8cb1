/* What the files of the configuration share. */
#pragma once

#include "store/app_config.h"

/* A client's text for the inside of a message of one line: at most 64 bytes, cut between
 * characters, with '?' for control characters and for all that is not UTF-8. */
struct app_quoted {
    char text[65];
};
struct app_quoted app_quote(struct str text);
#define QUOTED(str) app_quote(str).text

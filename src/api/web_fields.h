/* Which header fields of a program's answer may go to a visitor, and how far they reach there.
 *
 * At its own host name an app has an origin of its own. Below /web/NAME/ it shares one with the
 * control door and with other apps: what a browser would hold for the whole origin is dropped, and
 * cookies are confined to the app's pages. At neither does a cookie reach other host names, nor can
 * a program say what only the server says (Run-Id, ...).
 *
 * Pure. Thread: any. Layer: base. Source: RFC 6265 sections 4.1 and 5.2. */
#pragma once

#include "base/buf.h"

enum web_field {
    WEB_FIELD_PASSES,
    WEB_FIELD_COOKIE, /* as web_cookie_confine makes it */
    WEB_FIELD_DROPPED,
};

/* `prefix` is the path of the app's pages ("/web/NAME"), empty at its own host name. */
enum web_field web_field_judge(struct str name, struct str prefix);

/* Appends the value of a Set-Cookie that reaches no further than it may: without Domain and, where
 * there is a prefix, with a Path in it. INVAL: it is no cookie that works there, to be left out. */
MUST_USE enum err web_cookie_confine(struct str cookie, struct str prefix, struct buf *ret_cookie);

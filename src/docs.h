/* `0asm docs NAME`: the parts of docs/ that are made from tables of the program, as Markdown:
 *
 *   routes         the rows of api/routes.c
 *   app-options    the keys of an app's configuration (store/app_config.c)
 *   serve-options  the options of `0asm serve` that are limits, and what happens at each
 *   errors         the errors with their HTTP statuses (base/err.h)
 *   man            the manual page 0asm.1 (not Markdown)
 *
 * A page has such a part between two comments; tools/docs.sh puts it there, and a test compares.
 * Not listed by `0asm help`. Layer: all. */
#pragma once

/* Prints the part; 2 if there is none of that name. */
int docs_main(const char *name);

void docs_print_man(void);

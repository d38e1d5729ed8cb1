/* `0asm kill`. */
#include "cli/commands.h"
#include "cli/control.h"

const char kill_help[] = "A run that has ended already stays as it is.\n\n"
                         "  0asm kill $(0asm ps -q --tag job:nightly)\n";

int kill_main(int argc, char **argv) {
    return control_main(COMMAND_ROW(kill), "kill", false, argc, argv);
}

/* `0asm pause` and `0asm resume`. */
#include "cli/commands.h"
#include "cli/control.h"

const char pause_help[] = "A paused run keeps its memory and its time stands still.\n";
const char resume_help[] = "";

int pause_main(int argc, char **argv) {
    return control_main(COMMAND_ROW(pause), "pause", true, argc, argv);
}

int resume_main(int argc, char **argv) {
    return control_main(COMMAND_ROW(resume), "resume", true, argc, argv);
}

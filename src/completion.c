#include "completion.h"

#include "program.h"
#include "usage.h"

#include <ctype.h>
#include <stdio.h>

/* --- what the tables say ---------------------------------------------------------------------- */

/* The word by which the scripts know what may stand somewhere; "words:keep|fresh". */
static void print_kind(enum usage_kind kind, struct str text) {
    static const char *const names[] = {
        [USAGE_NONE] = "none",       [USAGE_APP] = "app",
        [USAGE_RUN] = "run",         [USAGE_APP_OR_RUN] = "app_or_run",
        [USAGE_REMOTE] = "remote",   [USAGE_REMOTE_OR_FILE] = "remote_or_file",
        [USAGE_FILE] = "file",       [USAGE_DIRECTORY] = "directory",
        [USAGE_COMMAND] = "command", [USAGE_WORDS] = "words:",
    };
    printf("%s", names[kind]);
    for (bool first = true; kind == USAGE_WORDS && text.length > 0;) {
        struct str word = str_cut(&text, '|');
        if (word.length > 0 && islower((unsigned char)word.data[0])) {
            printf("%s" STR_FORMAT, first ? "" : "|", STR_ARGS(word));
            first = false;
        }
    }
}

static void print_option(void *argument, const struct usage_option *option) {
    (void)argument;
    printf("--" STR_FORMAT " ", STR_ARGS(option->name));
    if (option->letter) {
        printf("-%c ", option->letter);
    }
}

static void print_value(void *argument, const struct usage_option *option) {
    (void)argument;
    if (option->value.length > 0) {
        printf("--" STR_FORMAT "=", STR_ARGS(option->name));
        print_kind(usage_kind_of(option->value), option->value);
        putchar(' ');
    }
}

static void print_command(const struct command *command) {
    struct usage_argument arguments[USAGE_ARGUMENTS_MAX];
    bool repeats;
    size_t count = usage_arguments(command, arguments, &repeats);
    printf("    %s)\n        options='", command->name);
    usage_options_each(command, print_option, NULL);
    printf("--help'\n        values='");
    usage_options_each(command, print_value, NULL);
    printf("'\n        arguments='");
    for (size_t i = 0; i < count; i++) {
        printf("%s", i ? " " : "");
        print_kind(arguments[i].kind, arguments[i].text);
    }
    printf("'\n        repeats=%s\n        ;;\n", repeats ? "1" : "");
}

/* The functions that both shells understand. */
static void print_tables(void) {
    const struct command *command;
    printf("_0asm_commands='");
    for (size_t i = 0; (command = program_command(i)); i++) {
        printf("%s%s", i ? " " : "", command->name);
    }
    printf("'\n\n"
           "# Sets options, values (--OPTION=KIND), arguments (kinds) and repeats.\n"
           "_0asm_about() {\n"
           "    case $1 in\n");
    for (size_t i = 0; (command = program_command(i)); i++) {
        print_command(command);
    }
    printf("    *) return 1 ;;\n"
           "    esac\n"
           "}\n\n");
}

/* Lists what may stand there, a line each: the program, the kind, what is written of it so far.
 * Files of this machine are the shell's own matter. */
static const char lists[] =
    "_0asm_list() {\n"
    "    local program=$1 kind=$2 word=$3 before\n"
    "    case $kind in\n"
    "    app) \"$program\" apps -q ;;\n"
    "    run) \"$program\" ps -q ;;\n"
    "    app_or_run) \"$program\" apps -q && \"$program\" ps -q ;;\n"
    "    remote*)\n"
    "        case $word in\n"
    "        *:/*)\n"
    "            before=${word%/*}/\n"
    "            \"$program\" ls \"$before\" | while IFS= read -r name; do\n"
    "                printf '%s%s\\n' \"$before\" \"$name\"\n"
    "            done\n"
    "            ;;\n"
    "        *) \"$program\" apps -q | sed 's|$|:/|' ;;\n"
    "        esac\n"
    "        ;;\n"
    "    command) printf '%s\\n' \"$_0asm_commands\" | tr ' ' '\\n' ;;\n"
    "    words:*) printf '%s\\n' \"${kind#words:}\" | tr '|' '\\n' ;;\n"
    "    esac 2>/dev/null\n"
    "}\n\n"
    "# The kind of an option's value: the option, the list; fails if it takes none.\n"
    "_0asm_value_kind() {\n"
    "    case \" $2 \" in\n"
    "    *\" $1=\"*)\n"
    "        set -- \"${2#*\"$1=\"}\"\n"
    "        printf '%s' \"${1%% *}\"\n"
    "        ;;\n"
    "    *) return 1 ;;\n"
    "    esac\n"
    "}\n\n";

/* --- bash ------------------------------------------------------------------------------------- */

static const char bash_script[] =
    "_0asm() {\n"
    "    # Not COMP_WORDS: there names are cut at ':' and '='.\n"
    "    local line=${COMP_LINE:0:COMP_POINT} word kind= place=0 literal= i reply typed=\n"
    "    local options= values= arguments= repeats=\n"
    "    local -a words kinds\n"
    "    read -r -a words <<<\"$line\"\n"
    "    [[ $line == *[[:space:]] ]] && words+=(\"\")\n"
    "    local last=$((${#words[@]} - 1))\n"
    "    word=${words[last]}\n"
    "    COMPREPLY=()\n"
    "    if ((last == 1)); then\n"
    "        kind=command\n"
    "    else\n"
    "        _0asm_about \"${words[1]}\" || return 0\n"
    "        for ((i = 2; i < last; i++)); do\n"
    "            kind=\n"
    "            case ${words[i]} in\n"
    "            --) literal=1 ;;\n"
    "            -?*)\n"
    "                [[ ! $literal ]] && kind=$(_0asm_value_kind \"${words[i]}\" \"$values\") &&\n"
    "                    ((++i < last)) && kind=\n"
    "                ;;\n"
    "            *) ((++place)) ;;\n"
    "            esac\n"
    "        done\n"
    "        if [[ $kind ]]; then\n"
    "            : # the value of the option before it\n"
    "        elif [[ ! $literal && $word == --*=* ]]; then\n"
    "            kind=$(_0asm_value_kind \"${word%%=*}\" \"$values\") || return 0\n"
    "            typed=${word%%=*}=\n"
    "            word=${word#*=}\n"
    "        elif [[ ! $literal && $word == -* ]]; then\n"
    "            kind=\"words:${options// /|}\"\n"
    "        else\n"
    "            read -r -a kinds <<<\"$arguments\"\n"
    "            if ((place < ${#kinds[@]})); then\n"
    "                kind=${kinds[place]}\n"
    "            elif [[ $repeats ]]; then\n"
    "                kind=${kinds[-1]}\n"
    "            fi\n"
    "        fi\n"
    "    fi\n"
    "    while IFS= read -r reply; do\n"
    "        [[ $reply == \"$word\"* ]] && COMPREPLY+=(\"$typed$(printf '%q' \"$reply\")\")\n"
    "    done < <(_0asm_list \"${words[0]/#\\~/$HOME}\" \"$kind\" \"$word\")\n"
    "    case $kind in\n"
    "    file | directory | remote_or_file)\n"
    "        if [[ $word != *:/* ]]; then\n"
    "            local files=-f\n"
    "            [[ $kind == directory ]] && files=-d\n"
    "            ((${#COMPREPLY[@]} == 0)) && compopt -o filenames 2>/dev/null\n"
    "            while IFS= read -r reply; do\n"
    "                COMPREPLY+=(\"$typed$reply\")\n"
    "            done < <(compgen $files -- \"$word\")\n"
    "        fi\n"
    "        ;;\n"
    "    esac\n"
    "    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == */ ]] && compopt -o nospace 2>/dev/null\n"
    "    # What bash takes for words of their own is on the line already.\n"
    "    word=$typed$word\n"
    "    local separator\n"
    "    for separator in = :; do\n"
    "        if [[ $COMP_WORDBREAKS == *$separator* && $word == *$separator* ]]; then\n"
    "            typed=${word%\"${word##*$separator}\"}\n"
    "            COMPREPLY=(\"${COMPREPLY[@]#\"$typed\"}\")\n"
    "            word=${word##*$separator}\n"
    "        fi\n"
    "    done\n"
    "    return 0\n"
    "}\n"
    "complete -F _0asm 0asm\n";

/* --- zsh -------------------------------------------------------------------------------------- */

static const char zsh_script[] =
    "_0asm() {\n"
    "    local kind= place=0 literal= i options= values= arguments= repeats=\n"
    "    local -a kinds replies\n"
    "    if ((CURRENT == 2)); then\n"
    "        kind=command\n"
    "    else\n"
    "        _0asm_about \"${words[2]}\" || return 1\n"
    "        for ((i = 3; i < CURRENT; i++)); do\n"
    "            kind=\n"
    "            case ${words[i]} in\n"
    "            --) literal=1 ;;\n"
    "            -?*)\n"
    "                [[ -z $literal ]] && kind=$(_0asm_value_kind \"${words[i]}\" \"$values\") &&\n"
    "                    ((++i < CURRENT)) && kind=\n"
    "                ;;\n"
    "            *) ((++place)) ;;\n"
    "            esac\n"
    "        done\n"
    "        if [[ -n $kind ]]; then\n"
    "            : # the value of the option before it\n"
    "        elif [[ -z $literal && $PREFIX == --*=* ]]; then\n"
    "            kind=$(_0asm_value_kind \"${PREFIX%%=*}\" \"$values\") || return 1\n"
    "            compset -P '*='\n"
    "        elif [[ -z $literal && $PREFIX == -* ]]; then\n"
    "            kind=\"words:${options// /|}\"\n"
    "        else\n"
    "            kinds=(${=arguments})\n"
    "            if ((place < ${#kinds})); then\n"
    "                kind=${kinds[place + 1]}\n"
    "            elif [[ -n $repeats ]]; then\n"
    "                kind=${kinds[-1]}\n"
    "            fi\n"
    "        fi\n"
    "    fi\n"
    "    replies=(\"${(@f)$(_0asm_list \"${words[1]/#\\~/$HOME}\" \"$kind\" \"$PREFIX\")}\")\n"
    "    replies=(${replies:#})\n"
    "    # Directories go on.\n"
    "    compadd -S '' -- ${(M)replies:#*/}\n"
    "    compadd -- ${replies:#*/}\n"
    "    case $kind in\n"
    "    file) _files ;;\n"
    "    directory) _files -/ ;;\n"
    "    remote_or_file) [[ $PREFIX == *:/* ]] || _files ;;\n"
    "    esac\n"
    "}\n"
    "if [[ ${funcstack[1]} == _0asm ]]; then\n"
    "    _0asm \"$@\"\n"
    "else\n"
    "    compdef _0asm 0asm\n"
    "fi\n";

static int completion_run(int argc, char **argv) {
    bool is_bash = argc == 2 && strcmp(argv[1], "bash") == 0;
    bool is_zsh = argc == 2 && strcmp(argv[1], "zsh") == 0;
    if (!is_bash && !is_zsh) {
        return command_misused(&command_completion, argc < 2 ? "which shell?" : "not understood");
    }
    printf("%s# Completion of 0asm in %s; made by `0asm completion %s`.\n\n",
           is_zsh ? "#compdef 0asm\n" : "", argv[1], argv[1]);
    print_tables();
    printf("%s%s", lists, is_bash ? bash_script : zsh_script);
    return 0;
}

const struct command command_completion = {
    .name = "completion",
    .usage = "bash|zsh",
    .summary = "a script that completes these commands in a shell",
    .help = "Names of apps, their files and runs are asked from the server as you type.\n\n"
            "  source <(0asm completion bash)       in ~/.bashrc\n"
            "  source <(0asm completion zsh)        in ~/.zshrc, after compinit\n",
    .run = completion_run,
};

/* reference.c: what the option table makes besides --help: the effective configuration, shell
 * completion, and the manual page. */
#include <stdlib.h>
#include <string.h>

#include "engine/cmd/cmd.h"

/* In double quotes, as YAML and JSON read it. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\x%02x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}

static void print_value(const tow_option_t *option, const char *value)
{
    if (option->type == TOW_OPTION_INTEGER || option->type == TOW_OPTION_FLAG)
        fputs(value, stdout);
    else
        print_quoted(value);
}

int cmd_config(tow_options_t *options)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    for (size_t i = 0; i < count; i++) {
        const char *mark = tow_options_is_set(options, table[i].name) ? "" : "  # default";
        char *value;

        if (!cmd_takes(&table[i], "run") || !strcmp(table[i].name, "config"))
            continue;
        value = tow_options_shown(options, table[i].name, 0);
        if (!value)
            continue;
        if (table[i].type == TOW_OPTION_LIST) {
            printf("%s:\n", table[i].name);
            for (size_t j = 0; value; value = tow_options_shown(options, table[i].name, ++j)) {
                fputs("  - ", stdout);
                print_quoted(value);
                putchar('\n');
                tow_free(value);
            }
            continue;
        }
        printf("%s: ", table[i].name);
        print_value(&table[i], value);
        puts(mark);
        tow_free(value);
    }
    return 0;
}

/* Completion ------------------------------------------------------------------------------------*/

static bool verb_takes(const cmd_verb_t *verb, const tow_option_t *option)
{
    return cmd_takes(option, verb->name) || (verb->like && cmd_takes(option, verb->like));
}

static void print_bash(void)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    puts("# bash completion of towline: source it, or put it into /etc/bash_completion.d\n"
         "_towline() {\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=\n"
         "    case $before in");
    for (size_t i = 0; i < count; i++) {
        if (table[i].type == TOW_OPTION_CHOICE) {
            printf("        --%s) words='", table[i].name);
            for (const char *at = table[i].range; *at; at++)
                putchar(*at == '|' ? ' ' : *at);
            puts("' ;;");
        } else if (!strcmp(table[i].unit, "FILE")) {
            printf("        --%s) COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n",
                   table[i].name);
        } else if (!strcmp(table[i].unit, "DIR")) {
            printf("        --%s) COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n",
                   table[i].name);
        } else if (table[i].type != TOW_OPTION_FLAG) {
            printf("        --%s) return ;;\n", table[i].name);
        }
    }
    puts("        *) case $COMP_CWORD:${COMP_WORDS[1]} in");
    fputs("            1:*) words='", stdout);
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++)
        printf("%s ", verb->name);
    puts("' ;;");
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++) {
        printf("            *:%s) words='--help", verb->name);
        for (size_t i = 0; i < count; i++)
            if (verb_takes(verb, &table[i]))
                printf(" --%s", table[i].name);
        puts("' ;;");
    }
    puts("            esac ;;\n"
         "    esac\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -F _towline towline");
}

int cmd_completion(tow_options_t *options)
{
    const char *shell = tow_options_get(options, "shell", 0);

    if (!shell) {
        cmd_say("completion needs the shell: towline completion bash, or zsh");
        return TOW_ERROR_OPTION;
    }
    if (!strcmp(shell, "zsh"))
        puts("#compdef towline\nautoload -U +X bashcompinit && bashcompinit");
    print_bash();
    return 0;
}

/* Manual page -----------------------------------------------------------------------------------*/

/* As roff shows it: dashes that may be copied, and no line that begins as a request. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++)
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
}

static void print_man_option(const tow_option_t *option)
{
    fputs(".TP\n.B ", stdout);
    print_roff("--");
    print_roff(option->name);
    if (option->type == TOW_OPTION_CHOICE) {
        putchar(' ');
        print_roff(option->range);
    } else if (option->type != TOW_OPTION_FLAG) {
        printf(" \\fI%s\\fR", *option->unit ? option->unit : "N");
    }
    putchar('\n');
    print_roff(option->help);
    if (*option->initial && option->type != TOW_OPTION_FLAG) {
        fputs(" (default ", stdout);
        print_roff(option->initial);
        putchar(')');
    }
    printf(".\nVerbs: %s. Environment: %s.\n", option->verbs, option->environment);
}

int cmd_man(tow_options_t *options)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    printf(".TH TOWLINE 1 \"\" \"towline %s\"\n.SH NAME\ntowline \\- moves live MongoDB "
           "deployments\n.SH SYNOPSIS\n.B towline\n.I VERB\n[\\fIoptions\\fR]\n.SH VERBS\n",
           tow_version());
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++) {
        printf(".TP\n.B %s\n", verb->name);
        print_roff(verb->help);
        puts(".");
    }
    puts(".SH OPTIONS\nA YAML file (\\-\\-config), the environment and the command line give them, "
         "the "
         "later before the earlier.");
    for (size_t i = 0; i < count; i++)
        print_man_option(&table[i]);
    puts(".SH EXIT STATUS\n0 is success. The others are listed in the README, \"Exit statuses\"; "
         "each "
         "comes with one line on stderr that says what to do.");
    return 0;
}

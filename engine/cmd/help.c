/* SPDX-License-Identifier: Apache-2.0 */
/* help.c: help and the reference of engine/docs, made of the option table. */
#include <string.h>

#include "engine/cmd/cmd.h"

bool cmd_takes(const tow_option_t *option, const char *verb)
{
    size_t length = strlen(verb);

    for (const char *at = option->verbs; (at = strstr(at, verb)); at += length)
        if ((at == option->verbs || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

/* What stands behind the name: its choices, or its unit. */
static void argument_text(const tow_option_t *option, char *out, size_t size)
{
    if (option->type == TOW_OPTION_FLAG)
        out[0] = '\0';
    else if (option->type == TOW_OPTION_CHOICE)
        snprintf(out, size, " %s", option->range);
    else
        snprintf(out, size, " %s", *option->unit ? option->unit : "N");
}

static void print_options(FILE *out, const cmd_verb_t *verb)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    fputs("\nOptions (each has the environment variable named below it):\n", out);
    for (size_t i = 0; i < count; i++) {
        char argument[128];

        if (!cmd_takes(&table[i], verb->name) && !(verb->like && cmd_takes(&table[i], verb->like)))
            continue;
        argument_text(&table[i], argument, sizeof argument);
        fprintf(out, "  --%s%s\n      %s", table[i].name, argument, table[i].help);
        if (table[i].type == TOW_OPTION_INTEGER)
            fprintf(out, " (%s, default %s)", table[i].range, table[i].initial);
        else if (*table[i].initial && table[i].type != TOW_OPTION_FLAG)
            fprintf(out, " (default %s)", table[i].initial);
        fprintf(out, "\n      %s\n", table[i].environment);
    }
}

void cmd_help(FILE *out, const cmd_verb_t *verb)
{
    if (verb) {
        fprintf(out, "towline %s: %s\n\nUsage: towline %s%s [options]\n", verb->name, verb->help,
                verb->name,
                !verb->operand                    ? ""
                : !strcmp(verb->operand, "shell") ? " bash|zsh"
                                                  : " DURATION");
        print_options(out, verb);
        fputs("\nExit statuses: see man towline; 0 is success.\n", out);
        return;
    }
    fputs("towline moves live MongoDB deployments.\n\nUsage: towline VERB [options]\n\nVerbs:\n",
          out);
    for (const cmd_verb_t *each = cmd_verbs; each->name; each++)
        fprintf(out, "  %-10s  %s\n", each->name, each->help);
    fputs("\ntowline help VERB shows a verb's options; towline version the version.\n", out);
}

void cmd_help_markdown(FILE *out)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    fputs("| option | environment | default | verbs | meaning |\n| --- | --- | --- | --- | --- |\n",
          out);
    for (size_t i = 0; i < count; i++) {
        char argument[128];

        argument_text(&table[i], argument, sizeof argument);
        fprintf(out, "| `--%s", table[i].name);
        for (const char *at = argument; *at; at++)
            fprintf(out, *at == '|' ? "\\|" : "%c", *at);
        fprintf(out, "` | `%s` | %s | %s | %s |\n", table[i].environment,
                table[i].type == TOW_OPTION_FLAG ? "" : table[i].initial, table[i].verbs,
                table[i].help);
    }
}

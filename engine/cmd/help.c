/* SPDX-License-Identifier: Apache-2.0 */
/* help.c: help and the reference of engine/docs, made of the option table. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/screen.h"

enum { COLUMNS_LEAST = 40, COLUMNS_MOST = 100, COLUMNS = 80, INDENT = 6 };

static bool names(const char *verbs, const char *verb)
{
    size_t length = strlen(verb);

    for (const char *at = verbs; (at = strstr(at, verb)); at += length)
        if ((at == verbs || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

bool cmd_takes(const tow_option_t *option, const cmd_verb_t *verb)
{
    return names(option->verbs, verb->name) || (verb->like && names(option->verbs, verb->like));
}

/* What follows the name: its choices, or its unit. */
static void argument_text(const tow_option_t *option, char *out, size_t size)
{
    if (option->type == TOW_OPTION_FLAG)
        out[0] = '\0';
    else if (option->type == TOW_OPTION_CHOICE)
        snprintf(out, size, " %s", option->range);
    else
        snprintf(out, size, " %s", *option->unit ? option->unit : "N");
}

static size_t columns_of(FILE *out)
{
    size_t columns = COLUMNS, rows;

    if (isatty(fileno(out)) && out == stdout)
        cmd_screen_size(&columns, &rows);
    return columns < COLUMNS_LEAST  ? COLUMNS_LEAST
           : columns > COLUMNS_MOST ? COLUMNS_MOST
                                    : columns;
}

/* Word by word, after `used` cells of this line; the lines that follow are indented. */
static void print_wrapped(FILE *out, const char *text, size_t used, size_t indent)
{
    size_t columns = columns_of(out), length;
    const char *gap = "";

    for (; *text; text += length + strspn(text + length, " ")) {
        size_t cells;

        length = strcspn(text, " ");
        cells = cmd_cells(text, length);
        if (*gap && used + 1 + cells >= columns) {
            fprintf(out, "\n%*s", (int)indent, "");
            used = indent;
            gap = "";
        }
        fprintf(out, "%s%.*s", gap, (int)length, text);
        used += strlen(gap) + cells;
        gap = " ";
    }
    putc('\n', out);
}

static const char *short_form(const char *name)
{
    return !strcmp(name, "quiet") ? "-q, " : !strcmp(name, "verbose") ? "-v, " : "";
}

static void print_option(FILE *out, const tow_option_t *option)
{
    char argument[128], *help;

    argument_text(option, argument, sizeof argument);
    fprintf(out, "  %s--%s%s\n%*s", short_form(option->name), option->name, argument, INDENT, "");
    if (option->type == TOW_OPTION_INTEGER)
        help = tow_format("%s (%s, default %s)", option->help, option->range, option->initial);
    else if (*option->initial && option->type != TOW_OPTION_FLAG)
        help = tow_format("%s (default %s)", option->help, option->initial);
    else
        help = tow_strdup(option->help);
    print_wrapped(out, help, INDENT, INDENT);
    free(help);
}

static void print_options(FILE *out, const cmd_verb_t *verb)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);
    const char *group = "";

    for (size_t i = 0; i < count; i++) {
        if (!cmd_takes(&table[i], verb))
            continue;
        if (strcmp(group, table[i].group) != 0)
            fprintf(out, "\n%s%s%s\n", out == stdout ? cmd_colour(CMD_BOLD) : "", table[i].group,
                    out == stdout ? cmd_colour(CMD_PLAIN) : "");
        group = table[i].group;
        print_option(out, &table[i]);
    }
    fputs("\nEach option has an environment variable: --log-level is TOWLINE_LOG_LEVEL.\n", out);
}

void cmd_help(FILE *out, const cmd_verb_t *verb)
{
    if (verb) {
        fprintf(out, "towline %s: %s\n\nUsage: towline %s%s [options]\n", verb->name, verb->help,
                verb->name,
                !verb->operand                    ? ""
                : !strcmp(verb->operand, "shell") ? " bash|zsh|fish"
                                                  : " DURATION");
        print_options(out, verb);
        fputs("Exit statuses: see man towline; 0 is success.\n", out);
        return;
    }
    fputs("towline moves live MongoDB deployments.\n\nUsage: towline VERB [options]\n\nVerbs:\n",
          out);
    for (const cmd_verb_t *each = cmd_verbs; each->name; each++) {
        fprintf(out, "  %-10s  ", each->name);
        print_wrapped(out, each->help, 14, 14);
    }
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

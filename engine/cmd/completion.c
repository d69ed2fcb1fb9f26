/* SPDX-License-Identifier: Apache-2.0 */
/* completion.c: the shells' completion, made of the option table. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/cmd/cmd.h"

static void print_choices(const char *range)
{
    for (const char *at = range; *at; at++)
        putchar(*at == '|' ? ' ' : *at);
}

/* The words that follow an option, and those that a verb takes. An option may be written with its
 * value in one word, which bash takes apart at the `=`, and zsh does not. */
static void print_bash(void)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    puts(
        "# bash completion of towline: source it, or put it into /etc/bash_completion.d\n"
        "_towline() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words= head=\n"
        "    if [[ $word == = ]]; then word=\n"
        "    elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}\n"
        "    elif [[ $word == --*=* ]]; then head=${word%%=*}= before=${word%%=*} word=${word#*=}\n"
        "    fi\n"
        "    case $before in");
    for (size_t i = 0; i < count; i++) {
        if (table[i].type == TOW_OPTION_CHOICE) {
            printf("        --%s) words='", table[i].name);
            print_choices(table[i].range);
            puts("' ;;");
        } else if (!strcmp(table[i].unit, "FILE") || !strcmp(table[i].unit, "DIR")) {
            printf(
                "        --%s) COMPREPLY=($(compgen -P \"$head\" -%c -- \"$word\")); return ;;\n",
                table[i].name, *table[i].unit == 'F' ? 'f' : 'd');
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
            if (cmd_takes(&table[i], verb))
                printf(" --%s", table[i].name);
        puts("' ;;");
    }
    puts("            esac ;;\n"
         "    esac\n"
         "    COMPREPLY=($(compgen -P \"$head\" -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -F _towline towline");
}

static void print_zsh(void)
{
    puts("#compdef towline\nautoload -U +X bashcompinit && bashcompinit");
    print_bash();
    /* zsh reads the file when it is asked for the first completion, which is this one. */
    puts("[[ ${funcstack[1]} != _towline ]] || _bash_complete -F _towline");
}

/* In single quotes, as fish reads them. */
static void print_fish_text(const char *text)
{
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('\'');
}

static void print_fish_option(const tow_option_t *option)
{
    fputs("complete -c towline -n '__fish_seen_subcommand_from", stdout);
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++)
        if (cmd_takes(option, verb))
            printf(" %s", verb->name);
    printf("' -l %s", option->name);
    if (!strcmp(option->name, "quiet") || !strcmp(option->name, "verbose"))
        printf(" -s %c", *option->name);
    if (!strcmp(option->unit, "FILE")) {
        fputs(" -r -F", stdout);
    } else if (!strcmp(option->unit, "DIR")) {
        fputs(" -x -a '(__fish_complete_directories)'", stdout);
    } else if (option->type == TOW_OPTION_CHOICE) {
        fputs(" -x -a '", stdout);
        print_choices(option->range);
        putchar('\'');
    } else if (option->type != TOW_OPTION_FLAG) {
        fputs(" -x", stdout);
    }
    fputs(" -d ", stdout);
    print_fish_text(option->help);
    putchar('\n');
}

static void print_fish(void)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    puts("# fish completion of towline: put it into ~/.config/fish/completions/towline.fish\n"
         "complete -c towline -f");
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++) {
        printf("complete -c towline -n __fish_use_subcommand -a %s -d ", verb->name);
        print_fish_text(verb->help);
        putchar('\n');
    }
    for (size_t i = 0; i < count; i++)
        print_fish_option(&table[i]);
    puts("complete -c towline -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'");
}

void cmd_print_text(const tow_options_t *options, const char *name, void (*print)(void))
{
    FILE *kept = stdout, *memory;
    tow_json_t out = {0};
    size_t size;
    char *text = NULL, *line;

    if (!cmd_is_on(options, "json")) {
        print();
        return;
    }
    memory = open_memstream(&text, &size);
    if (!memory)
        tow_out_of_memory();
    stdout = memory;
    print();
    stdout = kept;
    fclose(memory);
    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, name, text);
    tow_json_end(&out);
    line = tow_json_take(&out);
    cmd_print_json(line);
    free(line);
    free(text);
}

int cmd_completion(tow_options_t *options)
{
    const char *shell = tow_options_get(options, "shell", 0);

    if (!shell) {
        cmd_say("completion needs the shell: towline completion bash, zsh or fish");
        return TOW_ERROR_OPTION;
    }
    cmd_print_text(options, "completion",
                   !strcmp(shell, "zsh")    ? print_zsh
                   : !strcmp(shell, "fish") ? print_fish
                                            : print_bash);
    return 0;
}

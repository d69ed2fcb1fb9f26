/* SPDX-License-Identifier: Apache-2.0 */
/* config.c: options from a YAML file: one mapping whose keys are option names, or mongosync's names
 * for the same things. What is unknown, of a wrong type or given twice is refused with file and
 * line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/options/options.h"

enum { FILE_MOST = 1 << 20, DEPTH_MOST = 8 };

typedef struct {
    tow_options_t *options;
    const char *path;
    yaml_document_t *document;
} file_t;

static bool fail_at(const file_t *file, const yaml_node_t *node, tow_error_t *error)
{
    return tow_fail_context(error, "%s:%zu", file->path, node->start_mark.line + 1);
}

static const char *scalar(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

static const tow_option_t *find_row(const char *name)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    for (size_t i = 0; i < count; i++)
        if (!strcmp(table[i].name, name))
            return &table[i];
    return NULL;
}

/* mongosync's keys ------------------------------------------------------------------------------*/

/* Keys that need nothing but another name, and those that have no counterpart, with the reason. */
static const struct {
    const char *theirs, *ours, *reason;
} foreign[] = {
    {"cluster0", "source", NULL},
    {"cluster1", "destination", NULL},
    {"disableVerification", "no-verify", NULL},
    {"logPath", "log-path", NULL},
    {"port", "listen", NULL},
    {"verbosity", "log-level", NULL},
    {"loadLevel", "workers", NULL},
    {"id", NULL, "one process moves all shards here; remove it"},
    {"hotDocIDs", NULL,
     "a document is read once however often it changes, without a list; remove it"},
    {"createIndexesBatchSize", NULL, "indexes are built one collection at a time; remove it"},
};

typedef struct {
    const char *from, *to;
} pair_t;

static const char *translate(const pair_t *pairs, size_t count, const char *value)
{
    for (size_t i = 0; i < count; i++)
        if (!strcasecmp(pairs[i].from, value))
            return pairs[i].to;
    return NULL;
}

/* Sets an option from mongosync's value for it. */
static bool set_foreign(tow_options_t *options, const char *key, const char *ours,
                        const char *value, tow_error_t *error)
{
    static const pair_t levels[] = {{"TRACE", "debug"},  {"DEBUG", "debug"}, {"INFO", "info"},
                                    {"WARN", "warning"}, {"ERROR", "error"}, {"FATAL", "error"},
                                    {"PANIC", "error"}};
    static const pair_t loads[] = {{"1", "2"}, {"2", "3"}, {"3", "4"}, {"4", "8"}};
    const char *meaning = value;
    char listen[64];

    if (!strcmp(key, "verbosity"))
        meaning = translate(levels, sizeof levels / sizeof *levels, value);
    else if (!strcmp(key, "loadLevel"))
        meaning = translate(loads, sizeof loads / sizeof *loads, value);
    if (!meaning)
        return tow_fail(error, TOW_ERROR_OPTION, "%s: '%s' is none of %s", key, value,
                        !strcmp(key, "verbosity") ? "TRACE, DEBUG, INFO, WARN, ERROR, FATAL, PANIC"
                                                  : "1, 2, 3, 4");
    if (!strcmp(key, "port")) {
        snprintf(listen, sizeof listen, "127.0.0.1:%.40s", value);
        meaning = listen;
    }
    return tow_options_set(options, ours, meaning, error);
}

static int find_foreign(const char *name)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (!strcmp(foreign[i].theirs, name))
            return (int)i;
    return -1;
}

bool tow_options_is_foreign(const char *name, bool *out_flag)
{
    int index = find_foreign(name);
    const tow_option_t *row =
        index >= 0 && foreign[index].ours ? find_row(foreign[index].ours) : NULL;

    *out_flag = row && row->type == TOW_OPTION_FLAG;
    return index >= 0;
}

bool tow_options_set_foreign(tow_options_t *options, const char *name, const char *value,
                             tow_error_t *error)
{
    int index = find_foreign(name);

    if (index < 0)
        return tow_fail(error, TOW_ERROR_OPTION, "'%s' is no option of mongosync's", name);
    if (!foreign[index].ours)
        return tow_fail(error, TOW_ERROR_OPTION, "mongosync's key '%s' is not supported: %s", name,
                        foreign[index].reason);
    return set_foreign(options, name, foreign[index].ours, value, error);
}

/* Values ----------------------------------------------------------------------------------------*/

static bool set_list(const file_t *file, const tow_option_t *row, const yaml_node_t *value,
                     tow_error_t *error)
{
    for (const yaml_node_item_t *at = value->data.sequence.items.start;
         at < value->data.sequence.items.top; at++) {
        const yaml_node_t *item = yaml_document_get_node(file->document, *at);

        if (item->type != YAML_SCALAR_NODE)
            return tow_fail(error, TOW_ERROR_OPTION,
                            "key '%s': an entry of the list is no text; give one %s a line",
                            row->name, row->unit);
        if (!tow_options_set(file->options, row->name, scalar(item), error))
            return false;
    }
    return true;
}

static const char *expected(const tow_option_t *row)
{
    switch (row->type) {
    case TOW_OPTION_LIST:
        return "a text or a list of texts";
    case TOW_OPTION_INTEGER:
        return "a number";
    case TOW_OPTION_FLAG:
        return "true or false";
    default:
        return "a text";
    }
}

static bool set_value(const file_t *file, const char *key, const yaml_node_t *value,
                      tow_error_t *error)
{
    const tow_option_t *row = find_row(key);
    int theirs = row ? -1 : find_foreign(key);

    if (theirs >= 0 && !foreign[theirs].ours)
        return tow_options_set_foreign(file->options, key, "", error);
    if (theirs >= 0)
        row = find_row(foreign[theirs].ours);
    if (!row || !strcmp(row->name, "config"))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "key '%s' is unknown; the keys are the options of towline run without "
                        "dashes, see towline run --help",
                        key);
    if (row->type == TOW_OPTION_LIST && value->type == YAML_SEQUENCE_NODE)
        return set_list(file, row, value, error);
    if (value->type != YAML_SCALAR_NODE)
        return tow_fail(error, TOW_ERROR_OPTION, "key '%s': the value is a %s; expected %s", key,
                        value->type == YAML_SEQUENCE_NODE ? "list" : "mapping", expected(row));
    return theirs >= 0 ? tow_options_set_foreign(file->options, key, scalar(value), error)
                       : tow_options_set(file->options, key, scalar(value), error);
}

/* The file --------------------------------------------------------------------------------------*/

/* The line of the same key before `pair`, or 0. Two names of one option are the same. */
static size_t given_before(const file_t *file, const yaml_node_t *root,
                           const yaml_node_pair_t *pair)
{
    const char *key = scalar(yaml_document_get_node(file->document, pair->key));

    for (const yaml_node_pair_t *at = root->data.mapping.pairs.start; at < pair; at++) {
        const yaml_node_t *other = yaml_document_get_node(file->document, at->key);

        if (!strcmp(scalar(other), key))
            return other->start_mark.line + 1;
        for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
            if (foreign[i].ours &&
                ((!strcmp(foreign[i].theirs, key) && !strcmp(foreign[i].ours, scalar(other))) ||
                 (!strcmp(foreign[i].ours, key) && !strcmp(foreign[i].theirs, scalar(other)))))
                return other->start_mark.line + 1;
    }
    return 0;
}

static bool read_root(const file_t *file, tow_error_t *error)
{
    const yaml_node_t *root = yaml_document_get_root_node(file->document);

    if (!root) /* an empty file sets nothing */
        return true;
    if (root->type != YAML_MAPPING_NODE) {
        tow_fail(error, TOW_ERROR_OPTION, "expected lines of `key: value`");
        return fail_at(file, root, error);
    }
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(file->document, pair->key);
        size_t before;

        if (key->type != YAML_SCALAR_NODE) {
            tow_fail(error, TOW_ERROR_OPTION, "a key is no text; expected `key: value`");
            return fail_at(file, key, error);
        }
        before = given_before(file, root, pair);
        if (before) {
            tow_fail(error, TOW_ERROR_OPTION,
                     "key '%s' was given in line %zu already; remove one of them", scalar(key),
                     before);
            return fail_at(file, key, error);
        }
        if (!set_value(file, scalar(key), yaml_document_get_node(file->document, pair->value),
                       error))
            return fail_at(file, key, error);
    }
    return true;
}

/* Syntax ----------------------------------------------------------------------------------------*/

static bool fail_yaml(const yaml_parser_t *parser, const char *path, tow_error_t *error)
{
    return tow_fail(error, TOW_ERROR_OPTION, "%s:%zu: no YAML: %s; expected lines of `key: value`",
                    path, parser->problem_mark.line + 1, parser->problem ? parser->problem : "?");
}

/* A zero would end the value here and not there. */
static bool check_scalar(const yaml_event_t *event, const char *path, tow_error_t *error)
{
    if (strlen((const char *)event->data.scalar.value) == event->data.scalar.length)
        return true;
    return tow_fail(error, TOW_ERROR_OPTION, "%s:%zu: a value holds a zero byte; remove it", path,
                    event->start_mark.line + 1);
}

static bool check_event(const yaml_event_t *event, const char *path, int *depth, tow_error_t *error)
{
    if (event->type == YAML_SCALAR_EVENT)
        return check_scalar(event, path, error);
    if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT)
        (*depth)++;
    else if (event->type == YAML_MAPPING_END_EVENT || event->type == YAML_SEQUENCE_END_EVENT)
        (*depth)--;
    return *depth <= DEPTH_MOST
               ? true
               : tow_fail(error, TOW_ERROR_OPTION,
                          "%s:%zu: lists and mappings are nested more than %d deep; expected "
                          "lines of `key: value`",
                          path, event->start_mark.line + 1, DEPTH_MOST);
}

/* Before a document is made of it: nesting takes the parser quadratic time. */
static bool check_syntax(const char *text, size_t length, const char *path, tow_error_t *error)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool ok = true, ended = false;
    int depth = 0;

    if (!yaml_parser_initialize(&parser))
        tow_out_of_memory();
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    while (ok && !ended) {
        if (!yaml_parser_parse(&parser, &event)) {
            ok = fail_yaml(&parser, path, error);
            break;
        }
        ended = event.type == YAML_STREAM_END_EVENT;
        ok = check_event(&event, path, &depth, error);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return ok;
}

/* A second document would be passed over in silence. */
static bool is_last(yaml_parser_t *parser, const char *path, tow_error_t *error)
{
    yaml_document_t document;
    const yaml_node_t *root;
    size_t line = 0;

    if (!yaml_parser_load(parser, &document))
        return fail_yaml(parser, path, error);
    root = yaml_document_get_root_node(&document);
    if (root)
        line = root->start_mark.line + 1;
    yaml_document_delete(&document);
    return line ? tow_fail(error, TOW_ERROR_OPTION,
                           "%s:%zu: a second document begins; give one, without `---` within", path,
                           line)
                : true;
}

static bool read_document(tow_options_t *options, const char *path, const tow_buffer_t *text,
                          tow_error_t *error)
{
    yaml_document_t document;
    yaml_parser_t parser;
    bool ok;

    if (!yaml_parser_initialize(&parser))
        tow_out_of_memory();
    yaml_parser_set_input_string(&parser, text->data, text->length);
    if (yaml_parser_load(&parser, &document)) {
        file_t file = {options, path, &document};

        ok = read_root(&file, error) &&
             (!yaml_document_get_root_node(&document) || is_last(&parser, path, error));
        yaml_document_delete(&document);
    } else {
        ok = fail_yaml(&parser, path, error);
    }
    yaml_parser_delete(&parser);
    return ok;
}

static bool read_whole(FILE *stream, const char *path, tow_buffer_t *out, tow_error_t *error)
{
    char piece[4096];
    size_t length;

    while (out->length <= FILE_MOST && (length = fread(piece, 1, sizeof piece, stream)))
        tow_buffer_append(out, piece, length);
    tow_buffer_append(out, "", 1); /* an empty file is text, too */
    out->length--;
    if (out->length > FILE_MOST)
        return tow_fail(error, TOW_ERROR_OPTION, "--config: %s is over 1 MB; give the right file",
                        path);
    return ferror(stream)
               ? tow_fail_errno(error, TOW_ERROR_OPTION, "--config: cannot read '%s'", path)
               : true;
}

/* Whether an option of this file is more than what may be shown of it. */
static bool holds_secret(const tow_options_t *from_file)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);
    bool found = false;

    for (size_t i = 0; i < count && !found; i++) {
        char *shown = tow_options_shown(from_file, table[i].name, 0);

        found = shown && table[i].type == TOW_OPTION_SECRET &&
                strcmp(shown, tow_options_get(from_file, table[i].name, 0)) != 0;
        free(shown);
    }
    return found;
}

/* A file with passwords must be ours alone, as every other that holds a secret. */
static bool check_owner(FILE *stream, const char *path, const tow_buffer_t *text,
                        tow_error_t *error)
{
    tow_options_t *alone = tow_options_new();
    tow_error_t ignored;
    bool ok = !read_document(alone, path, text, &ignored) || !holds_secret(alone) ||
              tow_secret_check(fileno(stream), "config", path, error);

    tow_options_destroy(alone);
    return ok ? true : tow_fail_context(error, "%s holds passwords", path);
}

bool tow_options_load(tow_options_t *options, const char *path, tow_error_t *error)
{
    FILE *stream = fopen(path, "re");
    tow_buffer_t text = {0};
    bool ok;

    if (!stream)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "--config: cannot read '%s'", path);
    /* Options name the data, and a command to run. */
    ok = tow_trusted_check(fileno(stream), "config", path, error) &&
         read_whole(stream, path, &text, error) &&
         check_syntax((const char *)text.data, text.length, path, error) &&
         check_owner(stream, path, &text, error) && read_document(options, path, &text, error);
    tow_buffer_free(&text);
    fclose(stream);
    return ok;
}

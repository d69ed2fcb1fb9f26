/* SPDX-License-Identifier: Apache-2.0 */
/* cells.c: see cells.h. */
#include "engine/cmd/cells.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/text.h"

#define ELLIPSIS "\xe2\x80\xa6"

typedef struct {
    uint32_t first, last;
} span_t;

/* Without a locale, which the program has none of. */
static const span_t combining[] = {
    {0x300, 0x36f},   {0x483, 0x489},    {0x591, 0x5bd},   {0x610, 0x61a},   {0x64b, 0x65f},
    {0x900, 0x902},   {0x941, 0x948},    {0xe34, 0xe3a},   {0xe47, 0xe4e},   {0x1ab0, 0x1aff},
    {0x1dc0, 0x1dff}, {0x200b, 0x200d},  {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f},
    {0xfeff, 0xfeff}, {0xe0100, 0xe01ef}};
static const span_t wide[] = {
    {0x1100, 0x115f},   {0x231a, 0x231b},   {0x23e9, 0x23ec},   {0x2614, 0x2615},  {0x26a1, 0x26a1},
    {0x2705, 0x2705},   {0x274c, 0x274e},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},  {0xa960, 0xa97c},
    {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},  {0xffe0, 0xffe6},
    {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1faff}, {0x20000, 0x3fffd}};

static bool is_in(const span_t *spans, size_t count, uint32_t code)
{
    for (size_t i = 0; i < count; i++)
        if (code >= spans[i].first && code <= spans[i].last)
            return true;
    return false;
}

/* What is not to be cut: a character, a \xNN, a mark, a colour. */
typedef struct {
    size_t length, cells;
} unit_t;

static unit_t unit_of(const char *text)
{
    uint32_t code = 0;
    size_t length = tow_text_decode(text, &code);

    if (text[0] == '\033') {
        length = strcspn(text, "m");
        return (unit_t){text[length] ? length + 1 : length, 0};
    }
    if (text[0] == '\\' && text[1] == 'x' && isxdigit((unsigned char)text[2]) &&
        isxdigit((unsigned char)text[3]))
        return (unit_t){4, 4};
    if (!length)
        return (unit_t){1, 1};
    if (code < 0x20 || is_in(combining, sizeof combining / sizeof *combining, code))
        return (unit_t){length, 0};
    return (unit_t){length, is_in(wide, sizeof wide / sizeof *wide, code) ? 2 : 1};
}

size_t cmd_cells(const char *line, size_t length)
{
    size_t cells = 0;
    unit_t unit;

    for (size_t at = 0; at < length && line[at]; at += unit.length) {
        unit = unit_of(line + at);
        cells += unit.cells;
    }
    return cells;
}

static bool is_mark(char character)
{
    return character >= *CMD_PLAIN && character <= *CMD_YELLOW;
}

static const char *sequence_of(char mark)
{
    static const char *const sequences[] = {"\033[0m",  "\033[1m",  "\033[2m",
                                            "\033[31m", "\033[32m", "\033[33m"};

    return sequences[mark - *CMD_PLAIN];
}

static void append_text(tow_buffer_t *out, const char *text)
{
    tow_buffer_append(out, text, strlen(text));
}

void cmd_fit(tow_buffer_t *out, const char *line, size_t cells, bool colour)
{
    bool cut = cmd_cells(line, strlen(line)) > cells, coloured = false;
    size_t used = 0, most = cut && cells ? cells - 1 : cells;
    unit_t unit;

    for (; *line; line += unit.length) {
        unit = unit_of(line);
        if (used + unit.cells > most)
            break;
        used += unit.cells;
        if (!is_mark(*line)) {
            tow_buffer_append(out, line, unit.length);
        } else if (colour) {
            append_text(out, sequence_of(*line));
            coloured = *line != *CMD_PLAIN;
        }
    }
    if (coloured)
        append_text(out, sequence_of(*CMD_PLAIN));
    if (cut && cells)
        append_text(out, ELLIPSIS);
}

char *cmd_column(const char *text, size_t least, size_t most)
{
    tow_buffer_t out = {0};

    cmd_fit(&out, text, most, false);
    for (size_t cells = cmd_cells((const char *)out.data, out.length); cells < least; cells++)
        tow_buffer_append(&out, " ", 1);
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

bool cmd_has_colours(int file)
{
    const char *none = getenv("NO_COLOR"), *kind = getenv("TERM");

    return isatty(file) && !(none && *none) && kind && *kind && strcmp(kind, "dumb") != 0;
}

const char *cmd_colour(const char *mark)
{
    return cmd_has_colours(STDOUT_FILENO) ? sequence_of(*mark) : "";
}

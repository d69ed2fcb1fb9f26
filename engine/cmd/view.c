/* SPDX-License-Identifier: Apache-2.0 */
/* view.c: see view.h.
 *
 * Both forms are made of the same rows: a label and items. The block lays the items out in columns,
 * the line strings them together. */
#include "engine/cmd/view.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/text.h"
#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"

#define LEFT_MOST (100 * 86400.0) /* seconds; beyond it the copy stands still, and nobody knows */

enum {
    LABEL_CELLS = 11,
    BAR_CELLS = 24,
    BAR_CELLS_NARROW = 10,
    WIDE = 72,       /* columns */
    LISTED = 6,      /* collections under way */
    FIGURES = 18,    /* cells for those of a collection */
    NAME_LEAST = 12, /* cells */
    NAME_MOST = 48
};

/* What is drawn so far. */
typedef struct {
    const cmd_view_t *view;
    tow_buffer_t out, line;
    bool one_line; /* all rows in one, without limits */
    bool any;      /* the row has an item */
    const char *separator;
} draw_t;

static double number(const draw_t *draw, const char *path)
{
    return cmd_number_of(draw->view->progress, path);
}

static const char *text(const draw_t *draw, const char *path)
{
    return cmd_text_of(draw->view->progress, path);
}

static bool is_phase(const draw_t *draw, const char *phase)
{
    return !strcmp(text(draw, "progress.phase"), phase);
}

/* Rows ------------------------------------------------------------------------------------------*/

static void add(draw_t *draw, const char *what)
{
    tow_buffer_append(&draw->line, what, strlen(what));
}

static size_t cells_of(const draw_t *draw)
{
    return cmd_cells((const char *)draw->line.data, draw->line.length);
}

static void end_line(draw_t *draw)
{
    tow_buffer_append(&draw->line, "", 1);
    cmd_fit(&draw->out, (const char *)draw->line.data, draw->view->columns - 1, draw->view->colour);
    tow_buffer_append(&draw->out, "\n", 1);
    tow_buffer_clear(&draw->line);
}

static void begin_row(draw_t *draw, const char *label, const char *separator)
{
    char *padded = tow_format(CMD_DIM "%-*s" CMD_PLAIN, LABEL_CELLS, label);

    draw->any = false;
    draw->separator = separator;
    if (!draw->one_line)
        add(draw, padded);
    else if (draw->line.length)
        add(draw, "; ");
    free(padded);
}

/* Whether the row's next item has room on this line, also for the comma behind it. */
static bool has_room(const draw_t *draw, const char *item)
{
    size_t cells = strlen(draw->separator) + cmd_cells(item, strlen(item)) + 1;

    return draw->one_line || cells_of(draw) + cells <= draw->view->columns - 1;
}

static void separate(draw_t *draw, const char *item)
{
    if (has_room(draw, item)) {
        add(draw, draw->separator);
        return;
    }
    if (*draw->separator == ',')
        add(draw, ",");
    end_line(draw);
    for (int i = 0; i < LABEL_CELLS; i++)
        add(draw, " ");
}

/* Every mark ends with its item, so that each line stands for itself. */
static void put(draw_t *draw, const char *mark, const char *item)
{
    if (draw->any)
        separate(draw, item);
    draw->any = true;
    if (*mark && !draw->one_line)
        add(draw, mark);
    add(draw, item);
    if (*mark && !draw->one_line)
        add(draw, CMD_PLAIN);
}

static void putf(draw_t *draw, const char *mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void putf(draw_t *draw, const char *mark, const char *format, ...)
{
    va_list arguments;
    char *item = NULL;

    va_start(arguments, format);
    if (vasprintf(&item, format, arguments) < 0)
        tow_out_of_memory();
    va_end(arguments);
    put(draw, mark, item);
    free(item);
}

static void end_row(draw_t *draw)
{
    if (!draw->one_line)
        end_line(draw);
}

/* Word by word. */
static void put_words(draw_t *draw, const char *mark, const char *sentence)
{
    char *copy = tow_strdup(sentence), *rest = copy, *word;

    while ((word = strsep(&rest, " ")))
        if (*word)
            put(draw, mark, word);
    free(copy);
}

static void put_sentence(draw_t *draw, const char *label, const char *mark, const char *sentence)
{
    begin_row(draw, label, " ");
    put_words(draw, mark, sentence);
    end_row(draw);
}

/* Figures ---------------------------------------------------------------------------------------*/

const char *cmd_moment(const char *time, const char *now, char out[64])
{
    if (strlen(time) < 16)
        snprintf(out, 64, "%.40s", time);
    else if (!strncmp(time, now, 10))
        snprintf(out, 64, "%.5s UTC", time + 11);
    else
        snprintf(out, 64, "%.10s %.5s UTC", time, time + 11);
    return out;
}

void cmd_rate_update(cmd_rate_t *rate, const bson_t *progress)
{
    double bytes = cmd_number_of(progress, "progress.collectionCopy.estimatedCopiedBytes");
    double seconds = cmd_number_of(progress, "progress.elapsedSeconds");

    if (seconds - rate->seconds < 0.5)
        return;
    if (bytes >= rate->bytes) {
        double now = (bytes - rate->bytes) / (seconds - rate->seconds);

        rate->rate = rate->rate > 0 ? rate->rate * 0.7 + now * 0.3 : now;
    }
    rate->bytes = bytes;
    rate->seconds = seconds;
}

/* At most 99% before the end, since the total is an estimate. */
static double percent_of(double part, double whole, bool ended)
{
    double percent = whole > 0 ? part / whole * 100 : 0;

    return ended ? 100 : percent > 99 ? 99 : percent < 0 ? 0 : percent;
}

static void put_bar(draw_t *draw, double percent)
{
    int cells = draw->view->columns >= WIDE || draw->one_line ? BAR_CELLS : BAR_CELLS_NARROW;
    int filled = (int)(percent * cells / 100 + 0.5);
    char bar[BAR_CELLS + 1];

    for (int i = 0; i < cells; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[cells] = '\0';
    putf(draw, CMD_GREEN, "[%s] %.0f%%", bar, percent);
}

static void put_lag(draw_t *draw)
{
    double lag = number(draw, "progress.lagMs");

    if (lag < 0)
        put(draw, "", "lag not known yet");
    else if (lag < 10000)
        putf(draw, "", "lag %.0f ms", lag);
    else
        putf(draw, CMD_YELLOW, "lag %.0f s", lag / 1000);
}

/* The parts of the block ------------------------------------------------------------------------*/

static bool is_ended(const draw_t *draw)
{
    return is_phase(draw, "failed") || is_phase(draw, "cancelled") || is_phase(draw, "expired");
}

static const char *colour_of(const draw_t *draw)
{
    if (is_ended(draw))
        return CMD_RED;
    return is_phase(draw, "in-sync") || is_phase(draw, "done") ? CMD_GREEN
           : is_phase(draw, "paused")                          ? CMD_YELLOW
                                                               : CMD_BOLD;
}

static void draw_phase(draw_t *draw)
{
    char elapsed[32];

    begin_row(draw, "phase", ", ");
    put(draw, colour_of(draw), text(draw, "progress.phase"));
    putf(draw, "", "job %s", text(draw, "progress.job"));
    if (!draw->one_line)
        put(draw, "", cmd_duration(number(draw, "progress.elapsedSeconds"), elapsed));
    if (*text(draw, "progress.directionMapping.Source") && !draw->one_line)
        putf(draw, CMD_DIM, "%s -> %s", text(draw, "progress.directionMapping.Source"),
             text(draw, "progress.directionMapping.Destination"));
    end_row(draw);
}

static void draw_silence(draw_t *draw, const char *side, const char *path)
{
    double ms = number(draw, path);
    char time[32];

    if (ms <= 0)
        return;
    begin_row(draw, side, ", ");
    putf(draw, CMD_RED, "%s%shas not answered for %s", draw->one_line ? side : "",
         draw->one_line ? " " : "", cmd_duration(ms / 1000, time));
    end_row(draw);
}

static void put_rate(draw_t *draw, double copied, double total)
{
    double rate = draw->view->bytes_per_second;
    double seconds = rate > 0 && total > copied ? (total - copied) / rate : LEFT_MOST;
    char value[32];

    if (rate > 0)
        putf(draw, "", "%s/s", tow_bytes_text(rate, value));
    if (seconds < LEFT_MOST)
        putf(draw, "", "%s left", cmd_duration(seconds, value));
}

static void draw_copy(draw_t *draw)
{
    double copied = number(draw, "progress.collectionCopy.estimatedCopiedBytes");
    double total = number(draw, "progress.collectionCopy.estimatedTotalBytes");
    double ranges = number(draw, "progress.collectionCopy.rangesTotal");
    double all = number(draw, "progress.collectionCopy.collectionsTotal");
    double done = number(draw, "progress.collectionCopy.collectionsCopied");
    bool copying = is_phase(draw, "copying");
    char a[32], b[32];

    if (copied <= 0 && !copying && ranges <= 0)
        return;
    begin_row(draw, "copied", ", ");
    if (copying)
        put_bar(draw, percent_of(copied, total, false));
    if (copying && total > copied)
        putf(draw, "", "%s of %s", tow_bytes_text(copied, a), tow_bytes_text(total, b));
    else
        put(draw, "", tow_bytes_text(copied, a));
    putf(draw, "", "%s documents",
         cmd_count(number(draw, "progress.collectionCopy.copiedDocuments"), a));
    if (copying)
        put_rate(draw, copied, total);
    putf(draw, "", "%.0f of %.0f collections", done, all);
    putf(draw, "", "%.0f of %.0f indexes", number(draw, "progress.indexBuilding.indexesBuilt"),
         number(draw, "progress.indexBuilding.totalIndexesToBuild"));
    end_row(draw);
}

/* Collections that are being copied: the largest, as many as there is room for. */
typedef struct {
    draw_t *draw;
    size_t listed, most, left;
} listing_t;

static double copied_percent(const bson_t *item)
{
    double documents = cmd_number_of(item, "copiedDocuments");

    return documents >= 0 ? percent_of(documents, cmd_number_of(item, "estimatedDocuments"), false)
                          : percent_of(cmd_number_of(item, "rangesCopied"),
                                       cmd_number_of(item, "rangesTotal"), false);
}

static size_t room_for_name(size_t columns, size_t indent)
{
    size_t others = indent + FIGURES + 1;

    if (columns < others + NAME_LEAST)
        return NAME_LEAST;
    return columns - others > NAME_MOST ? NAME_MOST : columns - others;
}

static void draw_collection(void *data, const bson_t *item)
{
    listing_t *listing = data;
    draw_t *draw = listing->draw;
    size_t indent = draw->view->columns >= WIDE ? LABEL_CELLS : 2;
    size_t room = room_for_name(draw->view->columns, indent), cells;
    tow_buffer_t name = {0};
    char size[32], *row;

    if (strcmp(cmd_text_of(item, "state"), "copying") != 0)
        return;
    if (listing->listed == listing->most) {
        listing->left++;
        return;
    }
    listing->listed++;
    cmd_fit(&name, cmd_text_of(item, "ns"), room, false);
    cells = cmd_cells((const char *)name.data, name.length);
    row = tow_format("%*s%.*s%*s  %3.0f%% of %s", (int)indent, "", (int)name.length,
                     (const char *)name.data, (int)(room - cells), "", copied_percent(item),
                     tow_bytes_text(cmd_number_of(item, "estimatedBytes"), size));
    add(draw, row);
    end_line(draw);
    free(row);
    tow_buffer_free(&name);
}

static void draw_collections(draw_t *draw, size_t room)
{
    listing_t listing = {.draw = draw, .most = room > LISTED ? LISTED : room};

    if (!draw->view->collections || draw->one_line || !room || !is_phase(draw, "copying"))
        return;
    cmd_each(draw->view->collections, "collections", draw_collection, &listing);
    if (!listing.left || room <= LISTED)
        return;
    begin_row(draw, "", "");
    putf(draw, CMD_DIM, "and %zu more being copied", listing.left);
    end_row(draw);
}

static void draw_changes(draw_t *draw)
{
    double headroom = number(draw, "progress.oplogHeadroomSeconds");
    double window = number(draw, "progress.window.leftSeconds");
    double left = number(draw, "progress.estimatedSecondsToCEACatchup");
    char value[32];

    begin_row(draw, "changes", ", ");
    put_lag(draw);
    if (is_phase(draw, "catching-up") && left >= 0)
        putf(draw, "", "in sync in about %s", cmd_duration(left, value));
    putf(draw, "", "%s seen", cmd_count(number(draw, "progress.eventsSeen"), value));
    if (number(draw, "progress.backlogEvents") > 0)
        putf(draw, "", "%s waiting", cmd_count(number(draw, "progress.backlogEvents"), value));
    if (number(draw, "progress.dirtyKeys") > 0)
        putf(draw, "", "%s dirty keys", cmd_count(number(draw, "progress.dirtyKeys"), value));
    if (headroom >= 0)
        putf(draw, headroom < 3600 ? CMD_YELLOW : "", "oplog headroom %s",
             cmd_duration(headroom, value));
    if (window >= 0 && !is_phase(draw, "finalizing"))
        putf(draw, window < 3600 ? CMD_YELLOW : "", "window %s", cmd_duration(window, value));
    end_row(draw);
}

static void draw_verification(draw_t *draw)
{
    double total = number(draw, "progress.verification.estimatedDocumentCount");
    double done = number(draw, "progress.verification.hashedDocumentCount");
    char a[32], b[32];

    if (total <= 0 || is_phase(draw, "copying"))
        return;
    begin_row(draw, "verified", ", ");
    if (number(draw, "progress.positions.verified.t") > 0 && !is_phase(draw, "finalizing"))
        put(draw, CMD_GREEN, "both sides were found equal");
    else
        putf(draw, "", "%s%s of %s documents", draw->one_line ? "verified " : "",
             cmd_count(done, a), cmd_count(total, b));
    end_row(draw);
}

static void draw_attempt(draw_t *draw)
{
    const char *at = text(draw, "progress.cutover.lastAttempt.calledOffAt");
    double late = number(draw, "progress.cutover.lastAttempt.lateWrites");
    char when[64], count[32];

    if (!*at || draw->one_line)
        return;
    begin_row(draw, "", ", ");
    putf(draw, CMD_YELLOW, "last called off at %s", cmd_moment(at, draw->view->now, when));
    if (late > 0)
        putf(draw, CMD_YELLOW, "%s write%s after the confirmation", cmd_count(late, count),
             late > 1 ? "s" : "");
    end_row(draw);
}

static void draw_cutover(draw_t *draw)
{
    const char *step = text(draw, "progress.cutover.step");
    double seconds = number(draw, "progress.cutover.estimatedSeconds");
    double late = number(draw, "progress.cutover.lateWrites");
    bool can = cmd_flag_of(draw->view->progress, "progress.canCommit");
    char value[32];

    if (*step && strcmp(step, "none") != 0) {
        begin_row(draw, "cutover", ", ");
        put(draw, CMD_BOLD, step);
        if (seconds >= 0)
            putf(draw, "", "about %s left", cmd_duration(seconds, value));
        if (cmd_flag_of(draw->view->progress, "progress.cutover.writesBlocked"))
            put(draw, "", "writes to the source are blocked");
        if (late > 0)
            putf(draw, CMD_YELLOW, "%s late writes", cmd_count(late, value));
        end_row(draw);
    } else if (can) {
        begin_row(draw, "cutover", ", ");
        put(draw, CMD_GREEN, draw->one_line ? "cutover possible" : "possible");
        end_row(draw);
    }
    draw_attempt(draw);
}

/* Why there is no cutover yet, or why the job has failed; what is tried again. */
static void draw_trouble(draw_t *draw)
{
    double retries = number(draw, "progress.retries");
    const char *reason = text(draw, "progress.reason"), *now = text(draw, "progress.retrying");
    char value[32];

    if (*reason && !draw->one_line && (is_phase(draw, "in-sync") || is_ended(draw)))
        put_sentence(draw, is_ended(draw) ? "reason" : "not yet", "", reason);
    if (retries <= 0 && !*now)
        return;
    begin_row(draw, "retries", draw->one_line ? ", " : " ");
    putf(draw, *now ? CMD_YELLOW : "", "%s%s", cmd_count(retries > 0 ? retries : 0, value),
         draw->one_line ? " retries"
         : *now         ? ","
                        : "");
    if (*now && draw->one_line)
        put(draw, "", now);
    else if (*now)
        put_words(draw, CMD_YELLOW, now);
    end_row(draw);
}

static bool is_early(const draw_t *draw)
{
    return is_phase(draw, "new") || is_phase(draw, "validating") || is_phase(draw, "preparing");
}

static void draw_below(draw_t *draw)
{
    if (!is_early(draw)) {
        draw_changes(draw);
        draw_verification(draw);
        draw_cutover(draw);
    }
    draw_trouble(draw);
    if (*text(draw, "progress.nextStep") && !draw->one_line)
        put_sentence(draw, "next", CMD_BOLD, text(draw, "progress.nextStep"));
}

static void draw_above(draw_t *draw)
{
    draw_phase(draw);
    draw_silence(draw, "source", "progress.source.silentMs");
    draw_silence(draw, "destination", "progress.destination.silentMs");
    if (!is_early(draw))
        draw_copy(draw);
}

/* The block and the line ------------------------------------------------------------------------*/

static size_t lines_in(const tow_buffer_t *buffer)
{
    size_t lines = 0;

    for (size_t i = 0; i < buffer->length; i++)
        lines += buffer->data[i] == '\n';
    return lines;
}

/* The first lines of what there is. */
static char *take_lines(tow_buffer_t *buffer, size_t most)
{
    size_t lines = 0, length = 0;

    while (length < buffer->length && lines < most)
        lines += buffer->data[length++] == '\n';
    buffer->length = length;
    tow_buffer_append(buffer, "", 1);
    return (char *)buffer->data;
}

char *cmd_view_block(const cmd_view_t *view)
{
    draw_t above = {.view = view}, below = {.view = view};
    size_t most = view->rows > 2 ? view->rows - 1 : 1, used; /* one is the cursor's */

    draw_above(&above);
    draw_below(&below);
    used = lines_in(&above.out) + lines_in(&below.out);
    draw_collections(&above, most > used ? most - used : 0);
    tow_buffer_append(&above.out, below.out.data, below.out.length);
    tow_buffer_free(&below.out);
    tow_buffer_free(&above.line);
    tow_buffer_free(&below.line);
    return take_lines(&above.out, most);
}

char *cmd_view_line(const cmd_view_t *view)
{
    draw_t draw = {.view = view, .one_line = true};

    draw_above(&draw);
    draw_below(&draw);
    tow_buffer_append(&draw.line, "", 1);
    return (char *)draw.line.data;
}

/* progress.c: the progress bar, or lines of JSON. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/base/text.h"
#include "engine/cmd/cmd.h"

#define LEFT_MOST (100 * 86400.0) /* seconds; beyond it the copy stands still, and nobody knows */

enum { REDRAW_MS = 200, LINE_MS = 1000, PLAIN_LINE_MS = 2000, BAR_CELLS = 24 };

char *cmd_count(double count, char out[32])
{
    char digits[32];
    size_t length, used = 0;

    snprintf(digits, sizeof digits, "%.0f", count);
    length = strlen(digits);
    for (size_t i = 0; i < length && used + 2 < 32; i++) {
        if (i && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

char *cmd_duration(double seconds, char out[32])
{
    long long left = seconds > 0 ? (long long)(seconds + 0.5) : 0;

    if (left < 120)
        snprintf(out, 32, "%lld s", left);
    else if (left < 2 * 3600)
        snprintf(out, 32, "%lld min", left / 60);
    else if (left < 48 * 3600)
        snprintf(out, 32, "%lld h %lld min", left / 3600, left / 60 % 60);
    else
        snprintf(out, 32, "%lld d %lld h", left / 86400, left / 3600 % 24);
    return out;
}

/* Bytes a second, smoothed over a few redraws. */
typedef struct {
    uint64_t bytes;
    double seconds, rate;
} rate_t;

static void update_rate(rate_t *rate, const tow_progress_t *progress)
{
    double passed = progress->elapsed_seconds - rate->seconds;

    if (passed < 0.5)
        return;
    if (progress->copied_bytes >= rate->bytes) {
        double now = (double)(progress->copied_bytes - rate->bytes) / passed;

        rate->rate = rate->rate > 0 ? rate->rate * 0.7 + now * 0.3 : now;
    }
    rate->bytes = progress->copied_bytes;
    rate->seconds = progress->elapsed_seconds;
}

static void text_lag(const tow_progress_t *progress, char *out, size_t size)
{
    if (progress->lag_ms < 0)
        snprintf(out, size, "lag ?");
    else if (progress->lag_ms < 10000)
        snprintf(out, size, "lag %lld ms", (long long)progress->lag_ms);
    else
        snprintf(out, size, "lag %lld s", (long long)(progress->lag_ms / 1000));
}

static void text_bar(double part, char *out)
{
    int filled = (int)(part * BAR_CELLS + 0.5);

    for (int i = 0; i < BAR_CELLS; i++)
        out[i] = i < filled ? '#' : '.';
    out[BAR_CELLS] = '\0';
}

static void text_copy(const tow_progress_t *progress, const rate_t *rate, char *out, size_t size)
{
    char bar[BAR_CELLS + 1], documents[32], bytes[32], speed[32], left[48] = "";
    double part = progress->estimated_bytes
                      ? (double)progress->copied_bytes / (double)progress->estimated_bytes
                      : 1;

    text_bar(part > 1 ? 1 : part, bar);
    if (rate->rate > 0 && progress->estimated_bytes > progress->copied_bytes) {
        double seconds = (double)(progress->estimated_bytes - progress->copied_bytes) / rate->rate;

        if (seconds < LEFT_MOST)
            snprintf(left, sizeof left, ", %d:%02d:%02d left", (int)(seconds / 3600),
                     (int)(seconds / 60) % 60, (int)seconds % 60);
    }
    snprintf(out, size, "[%s] %3.0f%%  %s documents, %s, %s/s%s", bar, part > 1 ? 100 : part * 100,
             cmd_count((double)progress->copied_documents, documents),
             tow_bytes_text((double)progress->copied_bytes, bytes),
             tow_bytes_text(rate->rate, speed), left);
}

static void text_cutover(const tow_progress_t *progress, char *out, size_t size)
{
    size_t length = strlen(out);
    char text[32];

    if (progress->cutover_seconds >= 0)
        length += (size_t)snprintf(out + length, size - length, ", %s left",
                                   cmd_duration(progress->cutover_seconds, text));
    if (progress->late_writes)
        snprintf(out + length, size - length, ", %s late writes",
                 cmd_count((double)progress->late_writes, text));
}

static void text_silence(const tow_progress_t *progress, char *out, size_t size)
{
    char text[32];
    size_t length = strlen(out);

    if (progress->source_silent_ms)
        length += (size_t)snprintf(out + length, size - length, ", SOURCE HAS NOT ANSWERED for %s",
                                   cmd_duration((double)progress->source_silent_ms / 1000, text));
    if (progress->destination_silent_ms)
        snprintf(out + length, size - length, ", DESTINATION HAS NOT ANSWERED for %s",
                 cmd_duration((double)progress->destination_silent_ms / 1000, text));
}

static void text_line(const tow_progress_t *progress, const rate_t *rate, char *out, size_t size)
{
    char detail[200], lag[32], keys[32], seen[32];

    text_lag(progress, lag, sizeof lag);
    cmd_count((double)progress->keys_dirty, keys);
    cmd_count((double)progress->events_seen, seen);
    if (progress->phase == TOW_PHASE_COPYING) {
        text_copy(progress, rate, detail, sizeof detail);
        snprintf(out, size, "%-11s %s  %s dirty keys", tow_phase_name(progress->phase), detail,
                 keys);
    } else if (progress->phase == TOW_PHASE_FINALIZING && progress->verify_total_documents) {
        char done[32], total[32];

        snprintf(out, size, "%-11s verified %s of %s documents", tow_phase_name(progress->phase),
                 cmd_count((double)progress->verified_documents, done),
                 cmd_count((double)progress->verify_total_documents, total));
    } else if (progress->phase < TOW_PHASE_COPYING) {
        snprintf(out, size, "%-11s", tow_phase_name(progress->phase));
    } else {
        snprintf(out, size, "%-11s %s, %s events seen, %s dirty keys, %s mode%s",
                 tow_phase_name(progress->phase), lag, seen, keys,
                 progress->direct_mode ? "direct" : "refetch",
                 progress->can_commit ? ", cutover possible" : "");
    }
    if (progress->phase == TOW_PHASE_FINALIZING)
        text_cutover(progress, out, size);
    if (progress->window_left_ms >= 0 && progress->phase != TOW_PHASE_FINALIZING) {
        size_t length = strlen(out);
        char left[32];

        snprintf(out + length, size - length, ", window %s",
                 cmd_duration((double)progress->window_left_ms / 1000, left));
    }
    text_silence(progress, out, size);
    if (progress->retrying[0]) {
        size_t length = strlen(out);

        snprintf(out + length, size - length, "  (retrying: %.120s)", progress->retrying);
    }
}

static int width(void)
{
    struct winsize window;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20 ? window.ws_col
                                                                                : 100;
}

static void show_bar(tow_job_t *job)
{
    bool terminal = isatty(STDOUT_FILENO);
    rate_t rate = {0};
    char line[700], *shown;
    tow_progress_t progress;

    while (!tow_job_ended(job, terminal ? REDRAW_MS : PLAIN_LINE_MS)) {
        tow_job_progress(job, &progress);
        update_rate(&rate, &progress);
        text_line(&progress, &rate, line, sizeof line);
        shown = tow_printable(line);
        if (terminal)
            printf("\r\033[K%.*s", width() - 1, shown);
        else
            printf("%8.1f s  %s\n", progress.elapsed_seconds, shown);
        free(shown);
        fflush(stdout);
    }
    if (terminal)
        printf("\r\033[K");
    fflush(stdout);
}

static void show_json(tow_job_t *job)
{
    bool ended;

    do {
        char *json;

        ended = tow_job_ended(job, LINE_MS);
        json = tow_job_progress_json(job);
        cmd_print_json(json);
        fflush(stdout);
        tow_free(json);
    } while (!ended);
}

void cmd_show_progress(tow_job_t *job, const char *form)
{
    if (!strcmp(form, "bar"))
        show_bar(job);
    else if (!strcmp(form, "json"))
        show_json(job);
    else
        while (!tow_job_ended(job, 60000))
            ;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* figures.c: judges figures of disk, oplog, clocks and descriptors; talks to nobody. */
#include <math.h>
#include <stdio.h>

#include "engine/base/duration.h"
#include "engine/base/memory.h"
#include "engine/base/text.h"
#include "engine/check/figures.h"

/* Below the first a spool cannot hold what a single batch may be; the second lasts
 * through a pause. */
static const double SPOOL_LEAST = 16e6, SPOOL_GOOD = 1e9;
/* Compressed data rarely takes less than a quarter, and indexes come on top. */
static const double PACKED_PART = 0.25, SAFE_PART = 1.2;
enum { SKEW_SECONDS = 5 };

void tow_judge_spool(tow_findings_t *findings, const char *folder, uint64_t free_bytes)
{
    char amount[32];

    tow_bytes_text((double)free_bytes, amount);
    if ((double)free_bytes < SPOOL_LEAST)
        tow_find_failure(findings, "spool_disk", TOW_ERROR_SPOOL,
                         tow_format("make room, or give a folder on another disk with --spool DIR"),
                         "not enough disk: %s is free for the spool in %s", amount, folder);
    else if ((double)free_bytes < SPOOL_GOOD)
        tow_find_warning(findings, "spool_disk",
                         tow_format("give the spool a folder with more room with --spool DIR, if "
                                    "the source is written to a lot"),
                         "only %s is free for the spool in %s", amount, folder);
    else
        tow_find_pass(findings, "spool_disk", "%s is free in %s", amount, folder);
}

void tow_judge_destination(tow_findings_t *findings, uint64_t copy_bytes, double used_bytes,
                           double total_bytes)
{
    double room = total_bytes - used_bytes;
    char free_text[32], copy_text[32];

    tow_bytes_text(room > 0 ? room : 0, free_text);
    tow_bytes_text((double)copy_bytes, copy_text);
    if (total_bytes <= 0)
        tow_find_skipped(findings, "destination_disk",
                         "the destination does not tell how large its disk is; %s are to be copied",
                         copy_text);
    else if (room < (double)copy_bytes * PACKED_PART)
        tow_find_failure(findings, "destination_disk", TOW_ERROR_UNSUITABLE,
                         tow_format("give the destination a larger disk, or copy less with "
                                    "--include and --exclude"),
                         "not enough disk: the destination has %s free, %s are to be copied",
                         free_text, copy_text);
    else if (room < (double)copy_bytes * SAFE_PART)
        tow_find_warning(findings, "destination_disk",
                         tow_format("make sure that the data compresses well, or give the "
                                    "destination a larger disk"),
                         "the destination has %s free, %s (uncompressed) are to be copied",
                         free_text, copy_text);
    else
        tow_find_pass(findings, "destination_disk", "the destination has %s free for %s", free_text,
                      copy_text);
}

void tow_judge_window(tow_findings_t *findings, double window_seconds, double full_seconds,
                      double copy_seconds)
{
    char window[32], full[48] = "", copy[32];

    tow_duration_text(window_seconds, window);
    if (full_seconds > window_seconds * 1.1) {
        char grown[32];

        snprintf(full, sizeof full, " (%s once it is full)",
                 tow_duration_text(full_seconds, grown));
    }
    tow_duration_text(copy_seconds, copy);
    if (copy_seconds >= 1 && full_seconds < copy_seconds)
        tow_find_warning(
            findings, "oplog_window",
            tow_format("enlarge the source's oplog (replSetResizeOplog, or "
                       "minRetentionHours) to more than %s, or copy in parts with --include: a "
                       "job that is interrupted for longer than the window begins anew",
                       copy),
            "the source's oplog reaches back %s%s, the copy is estimated to take %s", window, full,
            copy);
    else
        tow_find_pass(findings, "oplog_window",
                      "the source's oplog reaches back %s%s, the copy is estimated to take %s",
                      window, full, copy);
}

void tow_judge_clocks(tow_findings_t *findings, double source_seconds, double destination_seconds)
{
    double between = source_seconds - destination_seconds, most = fabs(between);

    if (fabs(source_seconds) > most)
        most = fabs(source_seconds);
    if (fabs(destination_seconds) > most)
        most = fabs(destination_seconds);
    if (most > SKEW_SECONDS)
        tow_find_warning(findings, "clock_skew",
                         tow_format("let all three follow a time server (chrony, ntpd): times of "
                                    "TTL indexes, lag and the window are told by these clocks"),
                         "against this machine's clock the source's is %+.1f s, the "
                         "destination's %+.1f s",
                         source_seconds, destination_seconds);
    else
        tow_find_pass(findings, "clock_skew", "the three clocks differ by at most %.1f s", most);
}

void tow_judge_files(tow_findings_t *findings, uint64_t limit, uint64_t needed)
{
    if (limit < needed)
        tow_find_failure(findings, "open_files", TOW_ERROR_UNSUITABLE,
                         tow_format("raise it with `ulimit -n 4096` (systemd: LimitNOFILE=4096), "
                                    "or give fewer --workers"),
                         "this process may open %llu files and connections, %llu are needed",
                         (unsigned long long)limit, (unsigned long long)needed);
    else
        tow_find_pass(findings, "open_files", "%llu files and connections, %llu are needed",
                      (unsigned long long)limit, (unsigned long long)needed);
}

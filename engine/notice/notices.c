/* SPDX-License-Identifier: Apache-2.0 */
/* notices.c: see notices.h. */
#include "engine/notice/notices.h"

#include <bson/bson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/base/text.h"
#include "engine/base/thread.h"
#include "engine/link/reply.h"
#include "engine/notice/deliver.h"
#include "engine/options/options.h"

enum { QUEUE_MOST = 32, ATTEMPTS = 10, FIRST_WAIT_MS = 1000, WAIT_MOST_MS = 60000 };

typedef enum { WEBHOOK, MAIL, CHANNELS } kind_t;

static const char *const channel_names[] = {"webhook", "mail"};

/* A notice as a channel sends it; owned. */
typedef struct {
    char *subject, *text; /* of a mail; the text of a webhook is its JSON */
} letter_t;

typedef struct {
    tow_notices_t *notices;
    kind_t kind;
    bool wanted;
    tow_thread_t thread;        /* under the lock, like what follows */
    letter_t queue[QUEUE_MOST]; /* the first is being sent */
    uint32_t count;
} channel_t;

struct tow_notices {
    tow_address_t address;
    tow_sink_t sink;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;      /* no new ones; what waits is tried at once */
    atomic_bool abort; /* give up what is left */
    channel_t channels[CHANNELS];
};

/* Options ---------------------------------------------------------------------------------------*/

static char *copy_of(const tow_options_t *options, const char *name)
{
    const char *value = tow_options_get(options, name, 0);

    return value ? tow_strdup(value) : NULL;
}

/* What would come to nothing by itself, or only with the first notice. */
static bool check_together(const tow_options_t *options, tow_error_t *error)
{
    static const char *const needs[][2] = {{"notify-key-file", "notify-webhook"},
                                           {"notify-user", "notify-smtp"},
                                           {"notify-password-file", "notify-smtp"}};
    const char *authorities = tow_options_get(options, "notify-ca-file", 0);

    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (tow_options_is_set(options, needs[i][0]) && !tow_options_is_set(options, needs[i][1]))
            return tow_fail(error, TOW_ERROR_OPTION, "--%s is for --%s only; give both, or neither",
                            needs[i][0], needs[i][1]);
    return !authorities || !access(authorities, R_OK) ||
           tow_fail_errno(error, TOW_ERROR_OPTION, "--notify-ca-file: cannot read %s", authorities);
}

static bool read_address(const tow_options_t *options, tow_address_t *out, tow_error_t *error)
{
    out->webhook = copy_of(options, "notify-webhook");
    out->smtp = copy_of(options, "notify-smtp");
    out->from = copy_of(options, "notify-from");
    out->to = copy_of(options, "notify-to");
    out->user = copy_of(options, "notify-user");
    out->ca_file = copy_of(options, "notify-ca-file");
    out->plain = !strcmp(tow_options_get(options, "notify-tls", 0), "none");
    if (!check_together(options, error) ||
        !tow_options_file(options, "notify-key-file", &out->key, error) ||
        !tow_options_file(options, "notify-password-file", &out->password, error))
        return false;
    if ((out->smtp || out->to || out->from) && !(out->smtp && out->to && out->from))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "mail needs all of --notify-smtp, --notify-from and --notify-to; %s is "
                        "missing",
                        !out->smtp   ? "--notify-smtp"
                        : !out->from ? "--notify-from"
                                     : "--notify-to");
    if (out->plain && out->password)
        return tow_fail(
            error, TOW_ERROR_OPTION,
            "--notify-tls none would send the password of --notify-password-file in the "
            "clear; leave one of them out");
    return true;
}

bool tow_notices_new(const tow_options_t *options, const tow_sink_t *sink, tow_notices_t **out,
                     tow_error_t *error)
{
    tow_notices_t *notices = tow_alloc(sizeof *notices);

    *out = NULL;
    notices->sink = *sink;
    pthread_mutex_init(&notices->lock, NULL);
    tow_condition_init(&notices->changed);
    if (!read_address(options, &notices->address, error)) {
        tow_notices_destroy(notices);
        return false;
    }
    for (int i = 0; i < CHANNELS; i++) {
        notices->channels[i].notices = notices;
        notices->channels[i].kind = (kind_t)i;
    }
    notices->channels[WEBHOOK].wanted = notices->address.webhook != NULL;
    notices->channels[MAIL].wanted = notices->address.smtp != NULL;
    if (notices->address.webhook || notices->address.smtp)
        *out = notices;
    else
        tow_notices_destroy(notices);
    return true;
}

/* Letters ---------------------------------------------------------------------------------------*/

static void clear_letter(letter_t *letter)
{
    free(letter->subject);
    free(letter->text);
    *letter = (letter_t){0};
}

static char *as_json(const tow_notice_t *notice, const char *now)
{
    bson_t body = BSON_INITIALIZER;
    char *json, *copy;

    bson_append_utf8(&body, "event", -1, notice->event, -1);
    bson_append_utf8(&body, "time", -1, now, -1);
    tow_append_text(&body, "job", notice->job);
    tow_append_text(&body, "title", notice->title);
    tow_append_text(&body, "message", notice->message);
    tow_append_text(&body, "source", notice->source);
    tow_append_text(&body, "destination", notice->destination);
    json = bson_as_relaxed_extended_json(&body, NULL);
    copy = tow_strdup(json ? json : "{}");
    bson_free(json);
    bson_destroy(&body);
    return copy;
}

static letter_t write_letter(kind_t kind, const tow_notice_t *notice)
{
    char now[32];

    char *title,
        *message; /* which hold names: a line of a mail's head or text is not theirs to end */
    letter_t letter;

    tow_wall_text(tow_wall_ms(), now);
    if (kind == WEBHOOK)
        return (letter_t){NULL, as_json(notice, now)};
    title = tow_printable(notice->title);
    message = tow_printable(notice->message);
    letter = (letter_t){
        tow_format("[towline] job %s: %s", notice->job, title),
        tow_format("Job %s: %s\n\n%s\n\nsource       %s\ndestination  %s\ntime         %s\n",
                   notice->job, title, message, notice->source, notice->destination, now)};
    free(message);
    free(title);
    return letter;
}

static bool deliver(channel_t *channel, const letter_t *letter, bool *out_again, tow_error_t *error)
{
    tow_notices_t *notices = channel->notices;

    return channel->kind == WEBHOOK
               ? tow_deliver_webhook(&notices->address, letter->text, &notices->abort, out_again,
                                     error)
               : tow_deliver_mail(&notices->address, letter->subject, letter->text, &notices->abort,
                                  out_again, error);
}

/* Threads ---------------------------------------------------------------------------------------*/

/* Waits before the next attempt; a close ends the wait. False: give up. */
static bool wait_again(tow_notices_t *notices, unsigned attempt)
{
    int64_t wait_ms = FIRST_WAIT_MS << (attempt < 6 ? attempt : 6);
    int64_t until_ms = tow_now_ms() + (wait_ms < WAIT_MOST_MS ? wait_ms : WAIT_MOST_MS);
    bool was_closing;

    pthread_mutex_lock(&notices->lock);
    was_closing = notices->closing;
    while (!atomic_load(&notices->abort) && notices->closing == was_closing)
        if (!tow_condition_wait(&notices->changed, &notices->lock, until_ms))
            break;
    pthread_mutex_unlock(&notices->lock);
    return !atomic_load(&notices->abort);
}

static void send_letter(channel_t *channel, const letter_t *letter)
{
    tow_notices_t *notices = channel->notices;
    tow_error_t error;
    bool again = true;

    for (unsigned attempt = 0; !atomic_load(&notices->abort); attempt++) {
        if (deliver(channel, letter, &again, &error))
            return;
        if (!again || attempt + 1 == ATTEMPTS || !wait_again(notices, attempt))
            break;
    }
    tow_emit(&notices->sink, TOW_LEVEL_WARNING, "notice_lost", "a notice by %s was not sent: %s",
             channel_names[channel->kind],
             atomic_load(&notices->abort) ? "the job ended meanwhile" : error.message);
}

static void *work(void *data)
{
    channel_t *channel = data;
    tow_notices_t *notices = channel->notices;

    pthread_mutex_lock(&notices->lock);
    for (;;) {
        letter_t letter;

        while (!channel->count && !notices->closing)
            pthread_cond_wait(&notices->changed, &notices->lock);
        if (!channel->count)
            break;
        letter = channel->queue[0];
        pthread_mutex_unlock(&notices->lock);
        send_letter(channel, &letter);
        pthread_mutex_lock(&notices->lock);
        clear_letter(&channel->queue[0]);
        channel->count--;
        memmove(channel->queue, channel->queue + 1, channel->count * sizeof *channel->queue);
        pthread_cond_broadcast(&notices->changed);
    }
    pthread_mutex_unlock(&notices->lock);
    return NULL;
}

void tow_notices_send(tow_notices_t *notices, const tow_notice_t *notice)
{
    for (int i = 0; notices && i < CHANNELS; i++) {
        channel_t *channel = &notices->channels[i];
        letter_t letter;
        bool taken;

        if (!channel->wanted)
            continue;
        letter = write_letter(channel->kind, notice);
        pthread_mutex_lock(&notices->lock);
        taken = !notices->closing && channel->count < QUEUE_MOST &&
                (channel->thread.started ||
                 tow_thread_start(&channel->thread, "notices", work, channel, NULL));
        if (taken)
            channel->queue[channel->count++] = letter;
        pthread_cond_broadcast(&notices->changed);
        pthread_mutex_unlock(&notices->lock);
        if (taken)
            continue;
        clear_letter(&letter);
        tow_emit(&notices->sink, TOW_LEVEL_WARNING, "notice_lost",
                 "a notice by %s was not sent: too many wait", channel_names[channel->kind]);
    }
}

void tow_notices_close(tow_notices_t *notices, int64_t grace_ms)
{
    int64_t until_ms = tow_now_ms() + grace_ms;

    if (!notices)
        return;
    pthread_mutex_lock(&notices->lock);
    notices->closing = true;
    pthread_cond_broadcast(&notices->changed);
    while (notices->channels[WEBHOOK].count + notices->channels[MAIL].count)
        if (!tow_condition_wait(&notices->changed, &notices->lock, until_ms))
            break;
    atomic_store(&notices->abort, true);
    pthread_cond_broadcast(&notices->changed);
    pthread_mutex_unlock(&notices->lock);
    for (int i = 0; i < CHANNELS; i++)
        tow_thread_join(&notices->channels[i].thread);
}

void tow_notices_destroy(tow_notices_t *notices)
{
    if (!notices)
        return;
    tow_notices_close(notices, 0);
    tow_address_clear(&notices->address);
    pthread_cond_destroy(&notices->changed);
    pthread_mutex_destroy(&notices->lock);
    free(notices);
}

bool tow_notices_try(tow_notices_t *notices, const tow_notice_t *notice, tow_error_t *error)
{
    tow_error_t later;
    bool ok = true;

    for (int i = 0; i < CHANNELS; i++) {
        letter_t letter;
        bool again;

        if (!notices->channels[i].wanted)
            continue;
        letter = write_letter((kind_t)i, notice);
        if (!deliver(&notices->channels[i], &letter, &again, ok ? error : &later))
            ok = false;
        clear_letter(&letter);
    }
    return ok;
}

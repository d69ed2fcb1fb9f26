/* SPDX-License-Identifier: Apache-2.0 */
/* driver.c: see driver.h. */
#include "engine/link/driver.h"

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/base/clock.h"

enum { KEPT = 16, TEXT_MOST = 400, AGAIN_MS = 60000 };

static _Atomic bool taken; /* the driver's handler is ours */
static _Thread_local tow_buffer_t *listening;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static unsigned entered;
static struct {
    char text[TEXT_MOST];
    int64_t said_ms;
    bool waits;
} kept[KEPT];
static unsigned next; /* to be overwritten */

/* Unless the same words were said a moment ago. The lock is held. */
static void keep(const char *text)
{
    unsigned at = next;

    for (unsigned i = 0; i < KEPT; i++)
        if (!strcmp(kept[i].text, text)) {
            if (kept[i].waits || tow_now_ms() - kept[i].said_ms < AGAIN_MS)
                return;
            at = i;
        }
    snprintf(kept[at].text, TEXT_MOST, "%s", text);
    kept[at].said_ms = tow_now_ms();
    kept[at].waits = true;
    if (at == next)
        next = (next + 1) % KEPT;
}

static void hear(mongoc_log_level_t level, const char *domain, const char *message, void *data)
{
    char text[TEXT_MOST];
    bool ours;

    snprintf(text, sizeof text, "%s", message);
    text[strcspn(text, "\n")] = '\0';
    if (listening) {
        if (level <= MONGOC_LOG_LEVEL_WARNING) {
            tow_buffer_append(listening, text, strlen(text));
            tow_buffer_append(listening, "\n", 1);
        }
        return;
    }
    pthread_mutex_lock(&lock);
    ours = entered > 0;
    if (ours && level <= MONGOC_LOG_LEVEL_WARNING)
        keep(text);
    pthread_mutex_unlock(&lock);
    if (!ours)
        mongoc_log_default_handler(level, domain, message, data);
}

void tow_take_driver_log(void)
{
    mongoc_init();
    mongoc_log_set_handler(hear, NULL);
    atomic_store(&taken, true);
}

bool tow_driver_is_heard(void)
{
    return atomic_load(&taken);
}

void tow_driver_enter(void)
{
    mongoc_init();
    pthread_mutex_lock(&lock);
    entered++;
    pthread_mutex_unlock(&lock);
}

void tow_driver_leave(void)
{
    pthread_mutex_lock(&lock);
    entered--;
    pthread_mutex_unlock(&lock);
}

void tow_driver_listen(tow_buffer_t *lines)
{
    mongoc_init();
    listening = lines;
}

/* The lock is not held while a listener is called. False: nothing waits. */
static bool take(char out[TEXT_MOST])
{
    bool any = false;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < KEPT && !any; i++) {
        unsigned at = (next + i) % KEPT; /* the oldest first */

        any = kept[at].waits;
        if (any)
            memcpy(out, kept[at].text, TEXT_MOST);
        kept[at].waits = false;
    }
    pthread_mutex_unlock(&lock);
    return any;
}

void tow_driver_tell(const tow_sink_t *sink)
{
    char text[TEXT_MOST];

    while (sink->fn && take(text))
        tow_emit(sink, TOW_LEVEL_WARNING, "driver_warning", "the MongoDB driver warns: %s", text);
}

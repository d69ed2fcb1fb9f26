/* SPDX-License-Identifier: Apache-2.0 */
/* event_queue.c: the events of a job, kept until a thread of the host's takes them. It is a
 * listener like any other; it shares the control's lock and condition, which the end of the job
 * wakes too. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum { QUEUE_MOST = 1024 };

struct tow_event_queue {
    tow_job_t *job;
    struct {
        tow_level_t level;
        int64_t time_ms;
        char *name, *message;
    } items[QUEUE_MOST]; /* `control.lock` guards what follows */
    uint32_t first, count;
    uint64_t lost; /* since the last one that was taken */
    bool closed;
    char *name, *message; /* of the event that was taken */
    tow_queued_event_t taken;
};

/* Gives away the oldest. */
static void drop(tow_event_queue_t *queue)
{
    free(queue->items[queue->first].name);
    free(queue->items[queue->first].message);
    queue->first = (queue->first + 1) % QUEUE_MOST;
    queue->count--;
}

static void put(void *data, tow_level_t level, const char *name, const char *message)
{
    tow_event_queue_t *queue = data;
    tow_control_t *control = &queue->job->control;
    uint32_t at;

    pthread_mutex_lock(&control->lock);
    if (!queue->closed) {
        if (queue->count == QUEUE_MOST) {
            drop(queue);
            queue->lost++;
        }
        at = (queue->first + queue->count++) % QUEUE_MOST;
        queue->items[at].level = level;
        queue->items[at].time_ms = tow_wall_ms();
        queue->items[at].name = tow_strdup(name);
        queue->items[at].message = tow_strdup(message);
        pthread_cond_broadcast(&control->changed);
    }
    pthread_mutex_unlock(&control->lock);
}

tow_event_queue_t *tow_event_queue_new(tow_job_t *job)
{
    tow_event_queue_t *queue = tow_alloc(sizeof *queue);

    queue->job = job;
    if (!tow_job_on_event(job, put, queue)) {
        free(queue);
        return NULL;
    }
    return queue;
}

/* The lock is held. */
static const tow_queued_event_t *take(tow_event_queue_t *queue)
{
    free(queue->name);
    free(queue->message);
    queue->name = queue->items[queue->first].name;
    queue->message = queue->items[queue->first].message;
    queue->taken = (tow_queued_event_t){.level = queue->items[queue->first].level,
                                        .time_ms = queue->items[queue->first].time_ms,
                                        .name = queue->name,
                                        .message = queue->message,
                                        .lost = queue->lost};
    queue->items[queue->first].name = queue->items[queue->first].message = NULL;
    queue->lost = 0;
    drop(queue);
    return &queue->taken;
}

const tow_queued_event_t *tow_event_queue_next(tow_event_queue_t *queue, int wait_ms)
{
    tow_control_t *control = &queue->job->control;
    int64_t until_ms = tow_now_ms() + wait_ms;
    const tow_queued_event_t *event = NULL;
    bool in_time = true;

    pthread_mutex_lock(&control->lock);
    while (!queue->count && !queue->closed && !control->stopped && in_time)
        if (wait_ms < 0)
            pthread_cond_wait(&control->changed, &control->lock);
        else
            in_time = tow_condition_wait(&control->changed, &control->lock, until_ms);
    if (queue->count && !queue->closed)
        event = take(queue);
    pthread_mutex_unlock(&control->lock);
    return event;
}

void tow_event_queue_close(tow_event_queue_t *queue)
{
    tow_control_t *control = &queue->job->control;

    pthread_mutex_lock(&control->lock);
    queue->closed = true;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

void tow_event_queue_destroy(tow_event_queue_t *queue)
{
    if (!queue)
        return;
    while (queue->count)
        drop(queue);
    free(queue->name);
    free(queue->message);
    free(queue);
}

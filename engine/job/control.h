/* SPDX-License-Identifier: Apache-2.0 */
/* control.h: what is asked of a job, what phase it is in, and what comes next.
 *
 * Threads: `lock` guards everything here but what says otherwise, and `changed` is broadcast when
 * any of it changes. Lock order: the journal's lock, then this one, then those of the flow, the
 * comparer and the outcome. */
#ifndef TOW_JOB_CONTROL_H
#define TOW_JOB_CONTROL_H

#include <pthread.h>

#include "engine/base/error.h"
#include "engine/job/phases.h"
#include "engine/job/summary.h"
#include "engine/job/window.h"

/* What finalizing is at. */
typedef enum { TOW_EFFORT_EVENTS, TOW_EFFORT_INDEXES, TOW_EFFORT_VERIFY } tow_effort_t;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tow_phase_t phase;
    int64_t started_ms, ended_ms, phase_since_ms;
    double phase_seconds[TOW_PHASE_CANCELLED + 1];
    bool started, stopped; /* the supervisor began; it has ended */
    bool closed;           /* how it ends is decided: too late to cancel */
    bool expired;          /* decided: no extension helps this process any more */
    bool pause_wished, cancelled;
    tow_window_t window;
    bool window_changed; /* and not yet stored */
    /* The cutover. */
    tow_cutover_step_t step;
    bool cutover_wished; /* false while finalizing: it is called off */
    bool waits_for_word; /* somebody called a cutover off: the next one is asked for */
    bool block_wished;   /* by whoever asked for the cutover */
    bool committed;      /* the cutover has passed its point of no return */
    bool late_told;
    int64_t confirmed_ms, confirmed_wall_ms; /* 0: no cutover was confirmed, or it was called off */
    uint64_t late_writes;                    /* before the last cutover was called off */
    uint32_t called_off;
    tow_attempt_t attempt; /* the last one that was */
    struct {
        tow_effort_t kind;
        int64_t since_ms;
        uint64_t settled; /* events, when it began */
        uint32_t indexes; /* built, likewise */
    } effort;             /* what finalizing is at */
} tow_control_t;

void tow_control_init(tow_control_t *control);
void tow_control_clear(tow_control_t *control);

/* The decision ------------------------------------------------------------------------------------
 *
 * A pure function: facts in, an action out; no clock, no lock, no I/O. The supervisor gathers the
 * facts, asks, does what it is told, and asks again; told to wait, it does so for a moment, or
 * until something is asked of the job. */

/* What the supervisor sees at one moment. */
typedef struct {
    int64_t now_ms;
    tow_phase_t phase;
    bool stop;      /* the job was asked to stop, or failed */
    bool pause;     /* somebody wants a pause */
    bool cutover;   /* somebody wants the cutover */
    bool forgotten; /* a cutover was confirmed, and called off before it began */
    bool window_over;
    bool copied;       /* nothing is being copied */
    bool rolled_over;  /* the stream went on after a gap: both sides are to be compared */
    bool ttl_restored; /* by a cutover that did not come to its end */
    bool unique_built; /* the unique indexes are on the destination */
    bool consistent;   /* the destination is a state that the source was in, and no index is being
                          built */
    bool close;        /* next to nothing is left to apply */
    bool indexes_idle;
    bool by_itself;  /* the job cuts over without being asked */
    bool called_off; /* a cutover was, in this process */
    uint64_t events; /* of the source, read so far */
} tow_facts_now_t;

typedef enum {
    TOW_DO_WAIT, /* nothing is to be done now */
    TOW_DO_STOP,
    TOW_DO_PAUSE,        /* hold copy and replay, then move to PAUSED */
    TOW_DO_RESUME,       /* let them go on, then move to `phase` */
    TOW_DO_MOVE,         /* to `phase` */
    TOW_DO_RESYNC,       /* compare both sides by ranges and repair what differs */
    TOW_DO_HOLD_TTL,     /* the source's alone is to expire documents again */
    TOW_DO_BUILD_UNIQUE, /* the unique indexes */
    TOW_DO_FORGET,       /* the confirmed cutover */
    TOW_DO_EXPIRE,       /* the window is over */
    TOW_DO_CUT_OVER
} tow_action_kind_t;

typedef struct {
    tow_action_kind_t kind;
    tow_phase_t phase; /* of MOVE and RESUME */
} tow_action_t;

/* Remembers between the calls, and is the supervisor's own. */
typedef struct {
    tow_phase_t paused_from;
    uint64_t quiet_events;  /* the source's, */
    int64_t quiet_since_ms; /* and since when there are so many */
} tow_decider_t;

tow_action_t tow_control_step(tow_decider_t *decider, const tow_facts_now_t *facts);

#endif

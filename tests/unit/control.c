/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor does next: whole lives of a job in virtual time, each with the trace that it
 * must leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/job/control.h"

enum { TICK_MS = 20 };

/* The world that the job meets: what becomes true or false, and when. */
typedef struct {
    int64_t at_ms;
    enum {
        COPIED,
        COPYING,
        CONSISTENT,
        CLOSE,
        FAR,
        WRITES,  /* the source is written to, once a tick, … */
        RESTS,   /* … and no more */
        INDEXES, /* are being built */
        BUILT,
        PAUSE,
        RESUME,
        CUTOVER,    /* is asked for */
        CALLED_OFF, /* by whoever asked, before it began */
        ROLLOVER,
        WINDOW_OVER,
        EXTENDED,
        STOP
    } what;
} change_t;

typedef struct {
    tow_facts_now_t facts;
    tow_decider_t decider;
    bool writes;
    int late; /* cutovers that late writes call off */
    bool ended;
    char trace[4096];
} world_t;

static void note(world_t *world, const char *text)
{
    size_t length = strlen(world->trace);

    snprintf(world->trace + length, sizeof world->trace - length, "[%5lld] %s\n",
             (long long)world->facts.now_ms, text);
}

static void change(world_t *world, int what)
{
    tow_facts_now_t *facts = &world->facts;

    switch (what) {
    case COPIED:
        facts->copied = true;
        break;
    case COPYING:
        facts->copied = false;
        break;
    case CONSISTENT:
        facts->consistent = true;
        break;
    case CLOSE:
        facts->close = true;
        break;
    case FAR:
        facts->close = false;
        break;
    case WRITES:
        world->writes = true;
        break;
    case RESTS:
        world->writes = false;
        break;
    case INDEXES:
        facts->indexes_idle = false;
        break;
    case BUILT:
        facts->indexes_idle = true;
        break;
    case PAUSE:
        facts->pause = true;
        break;
    case RESUME:
        facts->pause = false;
        break;
    case CUTOVER:
        facts->cutover = true;
        break;
    case CALLED_OFF:
        facts->cutover = false;
        facts->forgotten = true;
        break;
    case ROLLOVER:
        facts->rolled_over = true;
        break;
    case WINDOW_OVER:
        facts->window_over = true;
        break;
    case EXTENDED:
        facts->window_over = false;
        break;
    case STOP:
        facts->stop = true;
        break;
    }
}

/* A cutover, which late writes call off, or which ends the job. */
static void cut_over(world_t *world)
{
    note(world, "cut over");
    world->facts.cutover = false;
    if (!world->late) {
        world->ended = true;
        return;
    }
    world->late--;
    world->facts.called_off = true;
    world->facts.ttl_restored = true;
    world->facts.phase = TOW_PHASE_CATCHING_UP;
    note(world, "called off: writes go on");
}

static void act(world_t *world, tow_action_t action)
{
    char text[80];

    switch (action.kind) {
    case TOW_DO_WAIT:
        break;
    case TOW_DO_STOP:
        note(world, "stop");
        world->ended = true;
        break;
    case TOW_DO_PAUSE:
        note(world, "pause");
        world->facts.phase = TOW_PHASE_PAUSED;
        break;
    case TOW_DO_RESUME:
    case TOW_DO_MOVE:
        snprintf(text, sizeof text, "%s%s -> %s", action.kind == TOW_DO_RESUME ? "resume: " : "",
                 tow_phase_name(world->facts.phase), tow_phase_name(action.phase));
        note(world, text);
        assert_true(tow_phase_may_move(world->facts.phase, action.phase));
        world->facts.phase = action.phase;
        break;
    case TOW_DO_RESYNC:
        note(world, "compare and repair");
        world->facts.rolled_over = false;
        break;
    case TOW_DO_HOLD_TTL:
        note(world, "hold off TTL");
        world->facts.ttl_restored = false;
        break;
    case TOW_DO_BUILD_UNIQUE:
        note(world, "build unique indexes");
        world->facts.unique_built = true;
        break;
    case TOW_DO_FORGET:
        note(world, "forget the cutover");
        world->facts.forgotten = false;
        break;
    case TOW_DO_EXPIRE:
        note(world, "expire");
        world->ended = true;
        break;
    case TOW_DO_CUT_OVER:
        cut_over(world);
        break;
    }
}

/* Lives until the job ends, or for a minute after the last change. */
static void live(world_t *world, const change_t *changes, size_t count)
{
    size_t next = 0;

    world->facts.phase = TOW_PHASE_COPYING;
    world->facts.indexes_idle = true;
    while (!world->ended &&
           (next < count || world->facts.now_ms < changes[count - 1].at_ms + 60000)) {
        while (next < count && changes[next].at_ms <= world->facts.now_ms)
            change(world, changes[next++].what);
        world->facts.events += world->writes;
        act(world, tow_control_step(&world->decider, &world->facts));
        world->facts.now_ms += TICK_MS;
    }
}

#define LIVE(world, ...)                                                                           \
    live(world, (const change_t[]){__VA_ARGS__},                                                   \
         sizeof((const change_t[]){__VA_ARGS__}) / sizeof(change_t))

static void a_job_cuts_over_when_it_is_asked(void **state)
{
    world_t world = {0};

    LIVE(&world, {1000, COPIED}, {1500, CONSISTENT}, {2000, CLOSE}, {2200, WRITES},
         {9000, CUTOVER});
    assert_string_equal(world.trace, "[ 1000] copying -> catching-up\n"
                                     "[ 1500] build unique indexes\n"
                                     "[ 2000] catching-up -> in-sync\n"
                                     "[ 9000] cut over\n");
}

/* In sync comes and goes; a cutover that is asked for waits until it is there. */
static void a_cutover_begins_in_sync_alone(void **state)
{
    world_t world = {0};

    LIVE(&world, {0, COPIED}, {0, CONSISTENT}, {100, CLOSE}, {500, FAR}, {500, CUTOVER},
         {900, COPYING}, {1000, CLOSE}, {1200, COPIED});
    assert_string_equal(world.trace, "[    0] copying -> catching-up\n"
                                     "[   20] build unique indexes\n"
                                     "[  100] catching-up -> in-sync\n"
                                     "[  500] in-sync -> catching-up\n"
                                     "[  900] catching-up -> copying\n"
                                     "[ 1200] copying -> catching-up\n"
                                     "[ 1220] catching-up -> in-sync\n"
                                     "[ 1240] cut over\n");
}

/* A job that cuts over by itself waits for its builds, and after late writes for a second without
 * any. */
static void late_writes_put_a_cutover_off(void **state)
{
    world_t world = {.facts.by_itself = true, .late = 1};

    LIVE(&world, {100, COPIED}, {100, CONSISTENT}, {100, CLOSE}, {100, INDEXES}, {200, WRITES},
         {300, BUILT}, {5000, RESTS});
    assert_string_equal(world.trace, "[  100] copying -> catching-up\n"
                                     "[  120] build unique indexes\n"
                                     "[  140] catching-up -> in-sync\n"
                                     "[  300] cut over\n"
                                     "[  300] called off: writes go on\n"
                                     "[  320] hold off TTL\n"
                                     "[  340] catching-up -> in-sync\n"
                                     "[ 5980] cut over\n");
}

static void a_cutover_called_off_before_it_began_is_forgotten(void **state)
{
    world_t world = {0};

    LIVE(&world, {0, COPIED}, {0, CONSISTENT}, {100, CLOSE}, {400, CALLED_OFF}, {1000, STOP});
    assert_string_equal(world.trace, "[    0] copying -> catching-up\n"
                                     "[   20] build unique indexes\n"
                                     "[  100] catching-up -> in-sync\n"
                                     "[  400] forget the cutover\n"
                                     "[ 1000] stop\n");
}

static void a_pause_goes_back_to_where_it_came_from(void **state)
{
    world_t world = {0};

    LIVE(&world, {100, PAUSE}, {300, COPIED}, {500, RESUME}, {600, CONSISTENT}, {600, CLOSE},
         {800, PAUSE}, {800, CUTOVER}, {900, RESUME});
    assert_string_equal(world.trace, "[  100] pause\n"
                                     "[  500] resume: paused -> copying\n"
                                     "[  520] copying -> catching-up\n"
                                     "[  600] build unique indexes\n"
                                     "[  620] catching-up -> in-sync\n"
                                     "[  800] pause\n"
                                     "[  900] resume: paused -> catching-up\n"
                                     "[  920] catching-up -> in-sync\n"
                                     "[  940] cut over\n");
}

/* Also while it is paused; but not under a cutover. */
static void a_window_ends_the_job(void **state)
{
    world_t paused = {0}, asked = {0}, extended = {0};

    LIVE(&paused, {100, PAUSE}, {500, WINDOW_OVER});
    assert_string_equal(paused.trace, "[  100] pause\n[  500] expire\n");
    LIVE(&asked, {0, COPIED}, {0, CONSISTENT}, {100, CUTOVER}, {200, WINDOW_OVER}, {400, CLOSE});
    assert_string_equal(asked.trace, "[    0] copying -> catching-up\n"
                                     "[   20] build unique indexes\n"
                                     "[  400] catching-up -> in-sync\n"
                                     "[  420] cut over\n");
    LIVE(&extended, {90, WINDOW_OVER}, {95, EXTENDED}, {1000, STOP});
    assert_string_equal(extended.trace, "[ 1000] stop\n");
}

/* Both sides are compared and repaired before anything that rests on their being alike. */
static void a_gap_of_the_stream_is_repaired_first(void **state)
{
    world_t world = {0};

    LIVE(&world, {0, ROLLOVER}, {0, CONSISTENT}, {0, CLOSE}, {200, COPIED}, {400, ROLLOVER},
         {420, FAR}, {1000, CLOSE}, {1100, STOP});
    assert_string_equal(world.trace, "[  200] copying -> catching-up\n"
                                     "[  220] compare and repair\n"
                                     "[  240] build unique indexes\n"
                                     "[  260] catching-up -> in-sync\n"
                                     "[  420] in-sync -> catching-up\n"
                                     "[  440] compare and repair\n"
                                     "[ 1000] catching-up -> in-sync\n"
                                     "[ 1100] stop\n");
}

/* What an earlier process left: its unique indexes are looked for again, and TTL is
 * held off first. */
static void a_restart_takes_the_same_steps(void **state)
{
    world_t world = {.facts.ttl_restored = true, .facts.copied = true};

    LIVE(&world, {0, CONSISTENT}, {300, CLOSE}, {400, STOP}, {400, CUTOVER});
    assert_string_equal(world.trace, "[    0] copying -> catching-up\n"
                                     "[   20] hold off TTL\n"
                                     "[   40] build unique indexes\n"
                                     "[  300] catching-up -> in-sync\n"
                                     "[  400] stop\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_cuts_over_when_it_is_asked),
        cmocka_unit_test(a_cutover_begins_in_sync_alone),
        cmocka_unit_test(late_writes_put_a_cutover_off),
        cmocka_unit_test(a_cutover_called_off_before_it_began_is_forgotten),
        cmocka_unit_test(a_pause_goes_back_to_where_it_came_from),
        cmocka_unit_test(a_window_ends_the_job),
        cmocka_unit_test(a_gap_of_the_stream_is_repaired_first),
        cmocka_unit_test(a_restart_takes_the_same_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* process.c: see process.h. */
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "application.h"
#include "disk.h"
#include "engine/towline.h"
#include "schedule.h"

enum { PROCESSES = 60, BEGINS_MOST = 50, CALM_BEGINS = 10, STILL_US = 30000000 };

typedef struct {
    int number, host;
    tow_job_t *job;
    bool ended, ok, operated;
    tow_error_t error;
    tow_optime_t stop;
} process_t;

static plan_t plan;
static process_t processes[PROCESSES];
static int begun, hosts, kills, rivals, stops;
static uint64_t kill_at; /* message of the newest process; 0: none */
static process_t *last;
static tow_optime_t finalizing; /* when the last cutover began */

void process_begin(const plan_t *with)
{
    plan = *with;
    kills = (int)plan.values[PLAN_KILLS];
    rivals = (int)plan.values[PLAN_RIVALS];
    stops = (int)plan.values[PLAN_STOPS];
    sim_network_begin(&(sim_faults_t){(uint32_t)plan.values[PLAN_FAULTS],
                                      (uint32_t)plan.values[PLAN_LATE],
                                      (uint32_t)plan.values[PLAN_TRIP_US]});
}

static void trace(process_t *process, const char *what, const char *text)
{
    sim_trace("%d  %s: %s", process->number, what, text);
}

/* Options ---------------------------------------------------------------------------------------*/

static void folder_of(pid_t pid, char out[64])
{
    snprintf(out, 64, "/tmp/towline-sim-%d", (int)pid);
}

void process_clean(pid_t pid)
{
    char folder[64], command[100];

    folder_of(pid, folder);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (!access(folder, F_OK) && system(command))
        fprintf(stderr, "%s remains\n", folder);
}

static void set(tow_options_t *options, const char *name, const char *value)
{
    tow_error_t error;

    if (!tow_options_set(options, name, value, &error))
        sim_fail("--%s %s: %s", name, value, error.message);
}

static tow_options_t *make_options(const process_t *process)
{
    tow_options_t *options = tow_options_new();
    char spool[100], workers[16], folder[64], retry[24], lease[24];

    folder_of(getpid(), folder);
    snprintf(spool, sizeof spool, "%s/%d", folder, process->host);
    snprintf(workers, sizeof workers, "%d", (int)plan.values[PLAN_WORKERS]);
    snprintf(retry, sizeof retry, "%d", (int)plan.values[PLAN_RETRY_S]);
    snprintf(lease, sizeof lease, "%ds", (int)plan.values[PLAN_LEASE_S]);
    set(options, "source", "mongodb://source:27017/?replicaSet=source");
    set(options, "destination", "mongodb://destination:27017/?replicaSet=destination");
    set(options, "job", "sim");
    set(options, "spool", spool);
    set(options, "workers", workers);
    set(options, "include", "shop.*");
    set(options, "include", "crm.*");
    set(options, "cutover", "manual");
    set(options, "range-size", "1");
    set(options, "memory", "16");
    set(options, "retry-window", retry);
    set(options, "lease", lease);
    set(options, "verify-repair", "no");
    set(options, "verify-rate", plan.values[PLAN_VERIFY] ? "20" : "0");
    set(options, "no-verify", plan.values[PLAN_VERIFY] ? "false" : "true");
    return options;
}

/* A process -------------------------------------------------------------------------------------*/

static void on_event(void *data, tow_level_t level, const char *name, const char *message)
{
    process_t *process = data;

    trace(process, name, message);
    if (!strcmp(name, "phase") && !strcmp(message, "finalizing"))
        finalizing = sim_source.now;
}

/* Who asks for pauses and for the cutover. */
static void *operate(void *data)
{
    process_t *process = data;
    int64_t pauses = plan.values[PLAN_PAUSES];
    tow_error_t error;

    while (!process->ended) {
        sim_sleep(1 + sim_below(SIM_CHAOS, 1500000));
        if (process->ended)
            break;
        if (application_is_done() || (plan.values[PLAN_EARLY] && sim_one_in(SIM_CHAOS, 10))) {
            if (tow_job_cutover(process->job, &error))
                trace(process, "operator", "cutover");
        } else if (stops > 0 && sim_one_in(SIM_CHAOS, 5)) {
            stops--;
            trace(process, "operator", "stop");
            tow_job_stop(process->job);
        } else if (pauses && sim_one_in(SIM_CHAOS, 4) && tow_job_pause(process->job, &error)) {
            pauses--;
            sim_sleep(1 + sim_below(SIM_CHAOS, 4000000));
            if (!process->ended)
                tow_job_resume(process->job, &error);
        }
    }
    process->operated = true;
    sim_wake(process);
    return NULL;
}

static void *run(void *data)
{
    process_t *process = data;
    tow_options_t *options = make_options(process);
    tow_progress_t progress;
    tow_job_t *job = tow_job_new(options, &process->error);

    if (!job)
        sim_fail("the job cannot be made: %s", process->error.message);
    process->job = job;
    tow_job_on_event(job, on_event, process);
    sim_spawn(process->number, operate, process);
    process->ok = tow_job_run(job, &process->error);
    process->ended = true;
    while (!process->operated)
        sim_wait(process, -1);
    tow_job_progress(job, &progress);
    process->stop = TOW_OPTIME(progress.stop.t, progress.stop.i);
    if (!process->stop)
        process->stop = finalizing; /* an earlier process came to the end */
    if (process->ok)
        application_end();
    tow_job_told(job);
    tow_job_destroy(job);
    tow_options_destroy(options);
    trace(process, "ended", process->ok ? "well" : process->error.message);
    process->job = NULL;
    sim_wake(&processes);
    return NULL;
}

static process_t *begin_at(int host)
{
    process_t *process = &processes[begun];

    if (begun >= CALM_BEGINS)
        sim_network_calm(); /* with a short retry window it would take for ever */
    if (begun >= BEGINS_MOST)
        sim_fail("%d processes were begun, and none ended well; the last: %s", begun,
                 processes[begun - 1].error.message);
    *process = (process_t){.number = ++begun, .host = host};
    if (kills > 0)
        kill_at = 1 + sim_below(SIM_CHAOS, sim_one_in(SIM_CHAOS, 2) ? 60 : 1200);
    sim_trace("%d  begins on host %d", process->number, host);
    sim_spawn(process->number, run, process);
    last = process;
    return process;
}

static process_t *begin(bool new_host)
{
    return begin_at(new_host ? ++hosts : hosts);
}

/* Death and the like ----------------------------------------------------------------------------*/

static void kill_now(void *data)
{
    process_t *process = data;

    if (process->ended)
        return;
    trace(process, "killed", "");
    sim_kill(process->number);
    sim_network_kill(process->number);
    sim_disk_kill(process->number);
    process->ended = true;
    process->error = (tow_error_t){.code = TOW_ERROR_INTERRUPTED, .message = "killed"};
    sim_wake(&processes);
}

static void on_send(int number, uint64_t message)
{
    process_t *process = number ? &processes[number - 1] : NULL;

    if (!process || process != last || process->ended || !kill_at || message != kill_at)
        return;
    kill_at = 0;
    kills--;
    sim_at(sim_now_us() + sim_below(SIM_CHAOS, 3000), kill_now, process);
}

static bool any_alive(void)
{
    for (int i = 0; i < begun; i++)
        if (!processes[i].ended)
            return true;
    return false;
}

static const process_t *good_end(void)
{
    for (int i = 0; i < begun; i++)
        if (processes[i].ended && processes[i].ok)
            return &processes[i];
    return NULL;
}

/* A process on another host was killed when it had removed the job's state: its record of the end
 * is there. */
static int ended_elsewhere(const process_t *process)
{
    for (int i = process->number - 1; i-- > 0;)
        if (processes[i].host != process->host)
            return processes[i].error.code == TOW_ERROR_CONFLICT ? 0 : processes[i].host;
    return 0;
}

/* What may end a process that is begun again. One that comes when another one is done finds the
 * job's collections in its way, unless it runs on the same host. */
static void judge_end(const process_t *process)
{
    static const tow_error_code_t allowed[] = {TOW_ERROR_INTERRUPTED, TOW_ERROR_UNREACHABLE,
                                               TOW_ERROR_LEASE, TOW_ERROR_SERVER};

    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (process->error.code == allowed[i])
            return;
    if (process->error.code == TOW_ERROR_CONFLICT && (good_end() || ended_elsewhere(process)))
        return;
    sim_fail("the job failed (%d): %s", process->error.code, process->error.message);
}

/* The process stands still, for longer than its lease lasts or not, and another one begins. */
static process_t *stand_still(process_t *process)
{
    trace(process, "stands still", "");
    rivals--;
    sim_freeze(process->number, 1 + sim_below(SIM_CHAOS, STILL_US));
    sim_sleep(1 + sim_below(SIM_CHAOS, 2000000));
    return begin(true);
}

void *process_supervise(void *data)
{
    process_t *process = begin(true);

    sim_network_on_send(on_send);
    while (!good_end()) {
        bool woken = sim_wait(&processes, 1 + sim_below(SIM_CHAOS, 8000000));

        if (!process->ended && rivals > 0 && !woken && sim_one_in(SIM_CHAOS, 2))
            process = stand_still(process);
        if (!process->ended || process->ok)
            continue;
        /* One before it, which stood still, may be about to end the job. */
        sim_sleep(1 + sim_below(SIM_CHAOS, 3000000));
        while (process->error.code == TOW_ERROR_CONFLICT && any_alive())
            sim_wait(&processes, 1000000);
        judge_end(process);
        if (!good_end())
            process = process->error.code == TOW_ERROR_CONFLICT ? begin_at(ended_elsewhere(process))
                                                                : begin(sim_one_in(SIM_CHAOS, 4));
    }
    sim_network_calm();
    while (any_alive())
        sim_wait(&processes, 1000000);
    sim_sleep(60000000); /* for what may still arrive */
    sim_end();
    return NULL;
}

void process_judge(void)
{
    application_judge(good_end()->stop);
    process_clean(getpid());
}

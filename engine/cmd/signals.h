/* SPDX-License-Identifier: Apache-2.0 */
/* signals.h: SIGINT, SIGTERM and SIGHUP stop at a checkpoint. */
#ifndef TOW_CMD_SIGNALS_H
#define TOW_CMD_SIGNALS_H

#include <stdbool.h>

#include "engine/towline.h"

typedef struct {
    void *data;
    void (*stop)(void *data);
    bool (*ended)(void *data); /* whether there is nothing left to stop */
} cmd_stoppable_t;

/* Before any thread is started. */
void cmd_block_signals(void);
/* Starts a thread that waits for them; *what must live as long as the process. */
bool cmd_watch_signals(cmd_stoppable_t *what, tow_error_t *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* network.h: what lies between the engine and the two servers: libmongoc's functions, wrapped. A
 * message is delayed, lost on its way or on its way back, cut off in the middle, or arrives when
 * nobody waits for it any more, also when its process is dead. */
#ifndef TOW_SIM_NETWORK_H
#define TOW_SIM_NETWORK_H

#include "server.h"

typedef struct {
    uint32_t one_in;      /* so many messages one is hit; 0: none */
    uint32_t late_one_in; /* of those: one arrives late; 0: none */
    uint32_t trip_us;     /* at most, in the common case */
} sim_faults_t;

extern sim_server_t sim_source, sim_destination;
extern bool sim_shows_messages;

void sim_network_begin(const sim_faults_t *faults);
void sim_network_calm(void); /* no more faults */
/* Called before a message of a process is sent. */
void sim_network_on_send(void (*call)(int process, uint64_t number));
/* What the process has under way is lost, or arrives some time. */
void sim_network_kill(int process);
uint64_t sim_network_count(void);

#endif

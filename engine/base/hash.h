/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h: uthash, which ends the process as memory.h does when memory runs out. */
#ifndef TOW_BASE_HASH_H
#define TOW_BASE_HASH_H

#include "engine/base/memory.h"

#define uthash_fatal(message) tow_out_of_memory()
#include <uthash.h>

#endif

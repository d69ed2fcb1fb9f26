/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c: libbson ends the process as the library does when memory runs out; by
 * itself it aborts. */
#include <bson/bson.h>
#include <stdlib.h>

#include "engine/base/memory.h"
#include "engine/towline.h"

static void *must(void *memory)
{
    if (!memory)
        tow_out_of_memory();
    return memory;
}

static void *allocate(size_t bytes)
{
    return must(malloc(bytes));
}

static void *allocate_zeroed(size_t count, size_t bytes)
{
    return must(calloc(count, bytes));
}

static void *reallocate(void *memory, size_t bytes)
{
    return must(realloc(memory, bytes));
}

static void *allocate_aligned(size_t alignment, size_t bytes)
{
    void *memory = NULL;

    return must(posix_memalign(&memory, alignment, bytes) ? NULL : memory);
}

void tow_on_out_of_memory(void (*end)(void))
{
    static const bson_mem_vtable_t table = {.malloc = allocate,
                                            .calloc = allocate_zeroed,
                                            .realloc = reallocate,
                                            .free = free,
                                            .aligned_alloc = allocate_aligned};

    tow_when_out_of_memory(end);
    bson_mem_set_vtable(&table);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* decimal.c: see decimal.h. */
#include "engine/base/decimal.h"

#include <pthread.h>

static locale_t plain; /* kept for good; 0: there was no memory for it */

static void make(void)
{
    plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
}

locale_t tow_locale_plain(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make);
    return uselocale(plain);
}

void tow_locale_back(locale_t before)
{
    uselocale(before);
}

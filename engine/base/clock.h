/* clock.h: monotonic and wall time, in the units that the names say. */
#ifndef TOW_BASE_CLOCK_H
#define TOW_BASE_CLOCK_H

#include <stdint.h>

int64_t tow_now_ms(void);       /* monotonic */
int64_t tow_now_us(void);       /* monotonic */
int64_t tow_wall_ms(void);      /* since 1970 */
double tow_cpu_seconds(void);   /* of this process, user and system */

#endif

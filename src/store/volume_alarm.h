/* The alarms of a volume: a table of its database, which commits with everything else in it. So who
 * copies the file has them too.
 *
 * The table is made when the first alarm is set. All alarms of a volume are read when the first one
 * is asked for, and then are in memory as long as the volume is open. Their lines and inputs count
 * as bytes of the volume.
 *
 * All functions are polled, and changes are visible at once and on disk at the next commit
 * (volume_sync), as store/volume.h has it. Thread: any loop's. Layer: store. */
#pragma once

#include "store/alarm.h"
#include "store/volume.h"

#define VOLUME_ALARMS_MAX 100

/* Puts it in the place of one of the same name, or beside the others; takes it over on OK. If there
 * are VOLUME_ALARMS_MAX the oldest one that is over goes; NOSPC with a message if none is. */
MUST_USE enum err volume_alarm_set(struct op *op, struct volume *volume, struct alarm *alarm);
/* NOENT. A run that goes on is not touched. */
MUST_USE enum err volume_alarm_remove(struct op *op, struct volume *volume, struct str name);

enum alarm_visit { ALARM_SEEN, ALARM_CHANGED };
/* Calls `visit` for each, in the order of their names, with the volume locked: it must not wait,
 * nor use volumes. */
MUST_USE enum err
volume_alarms_visit(struct op *op, struct volume *volume,
                    enum alarm_visit (*visit)(void *argument, struct alarm *alarm), void *argument);

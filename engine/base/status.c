/* SPDX-License-Identifier: MIT */
/* Names of frame outcomes, below the engine because the sinks write them. */
#include "eestream/engine.h"

const char *ees_status_name(enum ees_status status) {
    static const char *const names[] = {"ok", "skipped", "dropped", "failed"};
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "?";
}

const char *ees_early_name(enum ees_early early) {
    static const char *const names[] = {"none", "degraded", "deadline"};
    return (unsigned)early < sizeof names / sizeof names[0] ? names[early] : "?";
}

/* SPDX-License-Identifier: MIT */
/* Rows of the option table. A row without a name opens a section of the help. */
#ifndef EES_CLI_OPTION_TABLE_H
#define EES_CLI_OPTION_TABLE_H

#include "tools/cli/options.h"

enum option_kind {
    OPTION_FLAG,    /* bool, takes no value */
    OPTION_COUNT,   /* unsigned, min..max */
    OPTION_NUMBER,  /* double, min..max */
    OPTION_NUMBERS, /* struct number_list, at most `max` of them */
    OPTION_TEXT,    /* const char *, into argv */
    OPTION_CHOICE,  /* int: position in `value`, which reads "first|second" */
};

struct option_row {
    const char *section;
    const char *name;
    char short_name;
    enum option_kind kind;
    unsigned verbs;       /* which verbs know it */
    size_t target;        /* offset in struct options */
    const char *value;    /* placeholder in the help */
    const char *fallback; /* default, parsed like a given value; NULL: zero */
    double min, max;
    const char *help;
};

extern const struct option_row option_table[];
extern const size_t option_table_length;

#endif

/* SPDX-License-Identifier: MIT */
/** Version of the headers. The library's own version is ees_version(); the two differ when a program was
 *  built against another release than the one it runs with. The build reads these three lines. */
#ifndef EESTREAM_VERSION_H
#define EESTREAM_VERSION_H

#define EES_VERSION_MAJOR 0
#define EES_VERSION_MINOR 1
#define EES_VERSION_PATCH 0

#endif

/* SPDX-License-Identifier: MIT */
/** Result codes and error reports.
 *
 *  Every fallible function returns 0 or a negative EES_E* code. Most take an `ees_error *` as last
 *  argument: the caller owns it, may pass NULL, and it is written only on failure; the flow codes EES_EAGAIN,
 *  EES_EOF and EES_ECANCELED leave it alone. The first failure wins: a report that already holds a code is not
 *  overwritten on the way up. Nothing is global, nothing is
 *  printed, so the functions can be used from any number of threads with one report each. */
#ifndef EESTREAM_ERROR_H
#define EESTREAM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EES_API __attribute__((visibility("default")))
#else
#define EES_API
#endif

/** name, value, what it means. EAGAIN, EOF and ECANCELED are flow, not failure. */
#define EES_ERROR_MAP(X)                                                                                               \
    X(EAGAIN, -1, "nothing yet, try again")                                                                            \
    X(EOF, -2, "end of stream")                                                                                        \
    X(ECANCELED, -3, "stopped on request")                                                                             \
    X(EINVAL, -4, "invalid argument or option")                                                                        \
    X(ENOMEM, -5, "out of memory")                                                                                     \
    X(ESOURCE, -6, "input cannot be read or is not a video")                                                           \
    X(EDAMAGED, -7, "this frame is damaged, the stream goes on")                                                       \
    X(EMODEL, -8, "model cannot be used")                                                                              \
    X(EOUTPUT, -9, "output cannot be written")                                                                         \
    X(EUNSUPPORTED, -10, "not in this build or on this machine")                                                       \
    X(ESTALLED, -11, "no progress within the allowed time")                                                            \
    X(EINTERNAL, -12, "internal error")

enum ees_code {
    EES_OK = 0,
#define EES_ERROR_ENUM(name, value, text) EES_##name = (value),
    EES_ERROR_MAP(EES_ERROR_ENUM)
#undef EES_ERROR_ENUM
};

/** A failure, told for a person. Plain data: copy it freely. Zero-initialise before first use. */
typedef struct ees_error {
    int code;          /**< EES_E*, 0 when nothing was reported */
    int os_errno;      /**< errno behind it, 0 when there is none */
    char message[384]; /**< one line: the thing, the value, what is allowed */
    char hint[160];    /**< what to do about it; "" when unknown */
    char where[48];    /**< source file and line that noticed it */
} ees_error;

/** Name of a code without the prefix ("EMODEL"); "?" for an unknown value. Any thread. */
EES_API const char *ees_error_name(int code);

/** One-line meaning of a code. Any thread. */
EES_API const char *ees_error_text(int code);

#ifdef __cplusplus
}
#endif
#endif

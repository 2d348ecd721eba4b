/* SPDX-License-Identifier: MIT */
/* What ingest has to give, written the long way: whole pictures in memory, resize everything, then crop. */
#ifndef EES_TESTS_INGEST_REFERENCE_H
#define EES_TESTS_INGEST_REFERENCE_H

#include "stages/ingest/ingest.h"

/* splitmix64 */
uint64_t ref_random(uint64_t *state);
unsigned ref_between(uint64_t *state, unsigned lo, unsigned hi); /* both inclusive */

/* Packed RGB of something smooth, with edges and noise. malloc'ed. */
uint8_t *ref_picture(unsigned width, unsigned height, uint64_t seed);

/* Encode packed RGB. malloc'ed. @param sampling  luma sampling factor, 1 or 2, both ways */
void *ref_encode(const uint8_t *rgb, unsigned width, unsigned height, int quality, int sampling, bool progressive,
                 size_t *n_bytes);

/* Packed RGB of (n_out) by Pillow's rules, horizontal pass first. malloc'ed. */
uint8_t *ref_resize(const uint8_t *rgb, unsigned width, unsigned height, unsigned out_width, unsigned out_height,
                    enum ees__filter filter);

/* The patch matrix of a picture. @param patches  3 * height * width floats */
void ref_ingest(const struct ees__preproc *preproc, const uint8_t *rgb, unsigned width, unsigned height,
                unsigned model_height, unsigned model_width, unsigned patch, float *patches);

/* ImageNet numbers, everything else zero. */
struct ees__preproc ref_preproc(void);

#endif

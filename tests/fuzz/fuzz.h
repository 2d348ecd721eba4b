/* SPDX-License-Identifier: MIT */
/* A fuzz target: one function that takes bytes. libFuzzer calls it, or replay.c does with files. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Stop with a crash that the fuzzer sees, also where assert() is compiled out. */
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : __builtin_trap())

#endif

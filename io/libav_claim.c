/* SPDX-License-Identifier: MIT */
#include "io/libav_claim.h"

#include <stdbool.h>
#include <string.h>

/* ---- Matroska: an EBML header, then one Segment; sizes are 1 to 8 bytes, the leading zeros of the first tell ---- */

/* @return bytes taken, 0: cut off or no number. A value of all ones stands for "unknown" and becomes UINT64_MAX. */
static size_t read_size(const uint8_t *data, size_t n, uint64_t *value) {
    if (n == 0 || data[0] == 0)
        return 0;
    size_t length = (size_t)__builtin_clz(data[0]) - 24 + 1;
    if (length > n)
        return 0;
    uint64_t x = data[0] & (0xffu >> length), all_ones = ((uint64_t)1 << 7 * length) - 1;
    for (size_t i = 1; i < length; i++)
        x = x << 8 | data[i];
    *value = x == all_ones ? UINT64_MAX : x;
    return length;
}

static uint64_t end_of_segment(const uint8_t *head, size_t n) {
    static const uint8_t ebml[] = {0x1a, 0x45, 0xdf, 0xa3}, segment[] = {0x18, 0x53, 0x80, 0x67};
    uint64_t size;
    size_t at = sizeof ebml;
    if (n < at || memcmp(head, ebml, sizeof ebml) != 0)
        return 0;
    size_t taken = read_size(head + at, n - at, &size);
    if (!taken || size > n - at - taken)
        return 0;
    at += taken + (size_t)size;
    if (n - at < sizeof segment || memcmp(head + at, segment, sizeof segment) != 0)
        return 0;
    at += sizeof segment;
    taken = read_size(head + at, n - at, &size);
    return taken && size < UINT64_MAX ? at + taken + size : 0;
}

/* ---- RIFF ---- */

static uint64_t end_of_riff(const uint8_t *head, size_t n) {
    if (n < 8 || memcmp(head, "RIFF", 4) != 0)
        return 0;
    uint32_t size = (uint32_t)head[4] | (uint32_t)head[5] << 8 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 24;
    bool unfinished = size == 0 || size == UINT32_MAX; /* written by who could not go back */
    return unfinished ? 0
                      : (uint64_t)size + 8 - (size & 1); /* without the last chunk's padding, which some leave out */
}

uint64_t ees__claim_of_head(const uint8_t *head, size_t n) {
    uint64_t end = end_of_segment(head, n);
    return end ? end : end_of_riff(head, n);
}

uint64_t ees__claim_of_index(const AVFormatContext *format, AVStream *stream) {
    uint64_t end = 0;
    if (!strstr(format->iformat->name, "mp4")) /* elsewhere the entries are places to seek to */
        return 0;
    for (int i = 0, n = avformat_index_get_entries_count(stream); i < n; i++) {
        const AVIndexEntry *entry = avformat_index_get_entry(stream, i);
        uint64_t sample_end = entry->pos < 0 ? 0 : (uint64_t)entry->pos + (uint64_t)entry->size;
        end = sample_end > end ? sample_end : end;
    }
    return end;
}

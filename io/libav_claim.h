/* SPDX-License-Identifier: MIT */
/* How far a file should go by its container's own words. libav takes the end of a file that was cut short for the end
 * of the video. */
#ifndef EES_IO_LIBAV_CLAIM_H
#define EES_IO_LIBAV_CLAIM_H

#include <libavformat/avformat.h>

/* By the first bytes: the Segment of Matroska, a RIFF. @return offset of the end; 0: says nothing */
uint64_t ees__claim_of_head(const uint8_t *head, size_t n);

/* By the table of the stream's samples, where it holds their places in the file (mp4, mov).
 * @return offset of the end of the farthest sample; 0: no such table */
uint64_t ees__claim_of_index(const AVFormatContext *format, AVStream *stream);

#endif

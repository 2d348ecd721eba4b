/* SPDX-License-Identifier: MIT */
/* Reads what libavformat and libavcodec read: the module that libav_load.c loads.
 *
 * libav gets its bytes through our reader only: no file name, no protocol, and no way to open anything else, so a
 * playlist or a reference inside a file leads nowhere. Its memory is bounded by limits on pixels, streams and
 * probing. Pictures are not copied: a frame holds a reference to the decoder's own buffer until it is released, from
 * whatever thread. MJPEG packets are handed out undecoded, for the workers to decode. */
#include "io/libav.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <string.h>

#include "common/fail.h"
#include "io/libav_claim.h"
#include "io/libav_picture.h"

enum {
    IO_BYTES = 64 * 1024,
    MAX_PIXELS = 40 * 1000 * 1000, /* as ees_model_options.max_pixels by default */
    MAX_STREAMS = 64,
    PROBE_BYTES = 5 * 1000 * 1000,
    PROBE_US = 3 * 1000 * 1000,
};

/* Containers and picture formats that stand on their own; none that refers to other files or to the network. */
#define FORMATS                                                                                                        \
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,ogg,asf,ivf,obu,mxf,nut,"            \
    "h264,hevc,m4v,vc1,dv,gif,png_pipe,webp_pipe,bmp_pipe,tiff_pipe,ppm_pipe,pgm_pipe,jpeg_pipe,mjpeg"

struct libav {
    AVIOContext *io;
    AVFormatContext *format;
    AVCodecContext *codec; /* NULL: packets are handed out as they are */
    AVStream *stream;
    AVPacket *packet;
    struct SwsContext *sws;
    ees_error io_error; /* what our reader reported while libav was reading */
    int io_rc;
    bool draining;        /* the input is over, the decoder gives its last frames */
    int end;              /* what follows then: EES_EOF or EES_ESOURCE */
    int64_t start_ts;     /* AV_NOPTS_VALUE until known */
    uint64_t begin;       /* where the reader stood at first; what follows counts from there */
    uint64_t claimed_end; /* by the first bytes, 0: they do not say */
};

/* ---- bytes for libav ---- */

static int read_bytes(void *opaque, uint8_t *dst, int n) {
    ees_source *s = opaque;
    struct libav *l = s->state;
    const uint8_t *data;
    size_t have;
    int rc = ees__reader_view(s->reader, &data, &have, &l->io_error);
    if (rc < 0) {
        l->io_rc = rc;
        return rc == EES_ECANCELED ? AVERROR_EXIT : AVERROR(EIO);
    }
    if (have == 0)
        return AVERROR_EOF;
    size_t take = have < (size_t)n ? have : (size_t)n;
    memcpy(dst, data, take);
    ees__reader_consume(s->reader, take);
    return (int)take;
}

static int64_t seek_bytes(void *opaque, int64_t offset, int whence) {
    ees_source *s = opaque;
    int64_t size = ees__reader_size(s->reader), base = 0;
    if (whence & AVSEEK_SIZE)
        return size;
    whence &= ~AVSEEK_FORCE;
    if (whence == SEEK_CUR)
        base = (int64_t)ees__reader_position(s->reader);
    else if (whence == SEEK_END)
        base = size;
    if (__builtin_add_overflow(base, offset, &offset) || offset < 0)
        return AVERROR(EINVAL);
    ees__reader_seek(s->reader, (uint64_t)offset);
    return offset;
}

static int refuse_other_files(AVFormatContext *format, AVIOContext **pb, const char *url, int flags,
                              AVDictionary **options) {
    return AVERROR(EACCES);
}

static int stop_wanted(void *opaque) { return ees__stop_wanted(&((ees_source *)opaque)->stop); }

/* ---- opening ---- */

/* The failure behind a negative libav code, told for this source. */
static int fail_libav(ees_source *s, int av_rc, const char *what, ees_error *err) {
    struct libav *l = s->state;
    if (l->io_rc < 0) {
        if (err && !err->code)
            *err = l->io_error;
        return l->io_rc;
    }
    if (av_rc == AVERROR_EXIT)
        return EES_ECANCELED;
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(av_rc, text, sizeof text);
    int code = EES_ESOURCE;
    if (av_rc == AVERROR(ENOMEM))
        code = EES_ENOMEM;
    else if (av_rc == AVERROR_DECODER_NOT_FOUND || av_rc == AVERROR(ENOSYS))
        code = EES_EUNSUPPORTED;
    return EES_FAIL(err, code, "%s: %s near byte %llu: libav says '%s'", s->name, what,
                    (unsigned long long)ees__reader_position(s->reader), text);
}

static int read_claim(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    const uint8_t *head;
    size_t n;
    l->begin = ees__reader_position(s->reader);
    EES_TRY(ees__reader_head(s->reader, EES__PROBE_BYTES, &head, &n, err));
    l->claimed_end = ees__claim_of_head(head, n);
    return 0;
}

static int alloc_format(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    uint8_t *buffer = av_malloc(IO_BYTES);
    if (!buffer)
        return fail_libav(s, AVERROR(ENOMEM), "cannot start", err);
    l->io = avio_alloc_context(buffer, IO_BYTES, 0, s, read_bytes, NULL,
                               ees__reader_can_seek(s->reader) ? seek_bytes : NULL);
    if (!l->io)
        av_free(buffer);
    l->format = avformat_alloc_context();
    l->packet = av_packet_alloc();
    if (!l->io || !l->format || !l->packet)
        return fail_libav(s, AVERROR(ENOMEM), "cannot start", err);
    l->format->pb = l->io;
    l->format->flags |= AVFMT_FLAG_CUSTOM_IO;
    l->format->interrupt_callback = (AVIOInterruptCB){stop_wanted, s};
    l->format->io_open = refuse_other_files;
    l->format->max_streams = MAX_STREAMS;
    l->format->probesize = PROBE_BYTES;
    l->format->max_analyze_duration = PROBE_US;
    return 0;
}

static int open_format(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    AVDictionary *options = NULL;
    int rc = av_dict_set(&options, "format_whitelist", FORMATS, 0);
    if (rc >= 0)
        rc = av_dict_set(&options, "protocol_whitelist", "file,pipe", 0);
    if (rc >= 0)
        rc = avformat_open_input(&l->format, NULL, NULL, &options); /* on failure the context is gone */
    av_dict_free(&options);
    return rc < 0 ? fail_libav(s, rc, "not a video", err) : 0;
}

static int set_limits(AVDictionary **options) {
    int rc = av_dict_set_int(options, "max_pixels", MAX_PIXELS, 0);
    return rc < 0 ? rc : av_dict_set(options, "threads", "1", 0);
}

/* Let libav look into the streams, under the same limits as the decoder proper. */
static int probe_streams(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    unsigned n = l->format->nb_streams;
    AVDictionary **options = av_calloc(n ? n : 1, sizeof *options);
    int rc = options ? 0 : AVERROR(ENOMEM);
    for (unsigned i = 0; rc >= 0 && i < n; i++)
        rc = set_limits(&options[i]);
    if (rc >= 0)
        rc = avformat_find_stream_info(l->format, options);
    for (unsigned i = 0; options && i < n; i++)
        av_dict_free(&options[i]);
    av_free(options);
    return rc < 0 ? fail_libav(s, rc, "not a video", err) : 0;
}

static int choose_stream(ees_source *s, const AVCodec **decoder, ees_error *err) {
    struct libav *l = s->state;
    int best = av_find_best_stream(l->format, AVMEDIA_TYPE_VIDEO, -1, -1, decoder, 0);
    if (best == AVERROR_STREAM_NOT_FOUND)
        return EES_FAIL(err, EES_ESOURCE, "%s: no video stream in it", s->name);
    if (best < 0)
        return fail_libav(s, best, "no decoder for its video", err);
    for (unsigned i = 0; i < l->format->nb_streams; i++)
        if ((int)i != best)
            l->format->streams[i]->discard = AVDISCARD_ALL;
    l->stream = l->format->streams[best];
    return 0;
}

static int open_codec(ees_source *s, const AVCodec *decoder, ees_error *err) {
    struct libav *l = s->state;
    AVDictionary *options = NULL;
    l->codec = avcodec_alloc_context3(decoder);
    int rc = l->codec ? avcodec_parameters_to_context(l->codec, l->stream->codecpar) : AVERROR(ENOMEM);
    if (rc >= 0)
        rc = set_limits(&options);
    if (rc >= 0) {
        l->codec->pkt_timebase = l->stream->time_base;
        l->codec->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT; /* each packet counts, also before the first key frame */
        l->codec->flags2 |= AV_CODEC_FLAG2_SHOW_ALL;
        rc = avcodec_open2(l->codec, decoder, &options);
    }
    av_dict_free(&options);
    return rc < 0 ? fail_libav(s, rc, "cannot open the decoder", err) : 0;
}

static void fill_info(ees_source *s) {
    const AVStream *stream = ((struct libav *)s->state)->stream;
    AVRational rate = stream->avg_frame_rate.num > 0 ? stream->avg_frame_rate : stream->r_frame_rate;
    s->info.fps = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
    s->info.n_frames = stream->nb_frames > 0 ? stream->nb_frames : -1;
    s->info.width_px = stream->codecpar->width > 0 ? (uint32_t)stream->codecpar->width : 0;
    s->info.height_px = stream->codecpar->height > 0 ? (uint32_t)stream->codecpar->height : 0;
    s->info.backend = "libav";
}

static int open_libav(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    const AVCodec *decoder = NULL;
    l->start_ts = AV_NOPTS_VALUE;
    /* libav logs to stderr for the whole process. Whoever set a level of his own keeps it. */
    if (av_log_get_level() == AV_LOG_INFO)
        av_log_set_level(AV_LOG_QUIET);
    EES_TRY(read_claim(s, err));
    EES_TRY(alloc_format(s, err));
    EES_TRY(open_format(s, err));
    EES_TRY(probe_streams(s, err));
    if (ees__stop_wanted(&s->stop)) /* probing cut short is no failure to libav, and may have found no stream */
        return EES_ECANCELED;
    EES_TRY(choose_stream(s, &decoder, err));
    if (l->stream->codecpar->codec_id != AV_CODEC_ID_MJPEG)
        EES_TRY(open_codec(s, decoder, err));
    l->start_ts = l->stream->start_time;
    fill_info(s);
    return 0;
}

static void close_libav(ees_source *s) {
    struct libav *l = s->state;
    sws_freeContext(l->sws);
    avcodec_free_context(&l->codec);
    avformat_close_input(&l->format);
    if (l->io)
        av_freep(&l->io->buffer);
    avio_context_free(&l->io);
    av_packet_free(&l->packet);
}

/* ---- running ---- */

static int64_t time_of(ees_source *s, int64_t ts) {
    struct libav *l = s->state;
    if (ts == AV_NOPTS_VALUE)
        return s->info.fps > 0 ? ees__frame_time_at_fps(s->n_frames, s->info.fps) : -1;
    if (l->start_ts == AV_NOPTS_VALUE)
        l->start_ts = ts;
    int64_t since;
    if (__builtin_sub_overflow(ts, l->start_ts, &since))
        return -1;
    int64_t ns = av_rescale_q(since, l->stream->time_base, (AVRational){1, 1000000000});
    return ns < 0 ? -1 : ns;
}

static void note_damage(ees_source *s, struct ees__picture *p, int av_rc, ees_frame *out) {
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(av_rc, text, sizeof text);
    out->kind = EES_FRAME_RGB24;
    EES_FAIL(&p->error, EES_EDAMAGED, "%s: frame %llu cannot be decoded: libav says '%s'", s->name,
             (unsigned long long)s->n_frames, text);
}

/* What libav calls the end is one if the file goes as far as it says. */
static int end_of_input(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    int64_t size = ees__reader_size(s->reader);
    uint64_t end = size >= 0 ? (uint64_t)size : ees__reader_position(s->reader);
    uint64_t index_end = ees__claim_of_index(l->format, l->stream);
    uint64_t claimed = index_end > l->claimed_end ? index_end : l->claimed_end;
    if (end >= l->begin && claimed <= end - l->begin)
        return EES_EOF;
    return EES_FAIL(err, EES_ESOURCE, "%s: file ends at byte %llu, its video should go on to byte %llu", s->name,
                    (unsigned long long)end, (unsigned long long)(l->begin + claimed));
}

/* Next packet of our stream into l->packet. @return 0; EES_EOF (l->end says why); EES_ECANCELED */
static int read_packet(ees_source *s, ees_error *err) {
    struct libav *l = s->state;
    for (;;) {
        int rc = av_read_frame(l->format, l->packet);
        if (ees__stop_wanted(&s->stop))
            return EES_ECANCELED;
        if (rc == AVERROR(EAGAIN))
            continue;
        if (rc >= 0 && l->packet->stream_index == l->stream->index)
            return 0;
        av_packet_unref(l->packet);
        if (rc >= 0)
            continue;
        l->end =
            rc == AVERROR_EOF && l->io_rc == 0 ? end_of_input(s, err) : fail_libav(s, rc, "the video breaks off", err);
        return l->end == EES_ECANCELED ? EES_ECANCELED : EES_EOF;
    }
}

/* Give the decoder one more packet, or tell it that there are no more. @return 0, a libav error of this packet in
 * *av_rc, or a failure */
static int feed_decoder(ees_source *s, int *av_rc, ees_error *err) {
    struct libav *l = s->state;
    int rc = read_packet(s, err);
    if (rc == EES_ECANCELED)
        return rc;
    l->draining = rc == EES_EOF;
    *av_rc = avcodec_send_packet(l->codec, l->draining ? NULL : l->packet);
    av_packet_unref(l->packet);
    return 0;
}

/* Decode up to the next picture. *av_rc < 0: this one is damaged. */
static int decode(ees_source *s, struct ees__picture *p, int *av_rc, ees_error *err) {
    struct libav *l = s->state;
    for (;;) {
        *av_rc = avcodec_receive_frame(l->codec, p->frame);
        if (*av_rc == AVERROR_EOF || (*av_rc == AVERROR(EAGAIN) && l->draining))
            return l->end;
        if (*av_rc == AVERROR(ENOMEM))
            return fail_libav(s, *av_rc, "cannot decode", err);
        if (*av_rc != AVERROR(EAGAIN))
            return 0;
        EES_TRY(feed_decoder(s, av_rc, err));
        if (*av_rc < 0)
            return *av_rc == AVERROR(ENOMEM) ? fail_libav(s, *av_rc, "cannot decode", err) : 0;
    }
}

static int next_decoded(ees_source *s, struct ees__picture *p, ees_frame *out, ees_error *err) {
    int av_rc;
    EES_TRY(decode(s, p, &av_rc, err));
    if (av_rc < 0) {
        note_damage(s, p, av_rc, out);
        return 0;
    }
    out->pts_ns = time_of(s, p->frame->best_effort_timestamp);
    return ees__picture_describe(p, &((struct libav *)s->state)->sws, s->name, out, err);
}

static int next_packet(ees_source *s, struct ees__picture *p, ees_frame *out, ees_error *err) {
    struct libav *l = s->state;
    do {
        av_packet_unref(l->packet);
        int rc = read_packet(s, err);
        if (rc < 0)
            return rc == EES_EOF ? l->end : rc;
    } while (l->packet->size == 0); /* a repeated frame, as in avi.c */
    out->pts_ns = time_of(s, l->packet->pts != AV_NOPTS_VALUE ? l->packet->pts : l->packet->dts);
    av_packet_move_ref(p->packet, l->packet);
    out->kind = EES_FRAME_JPEG;
    if ((size_t)p->packet->size > s->options.max_frame_bytes)
        EES_FAIL(&p->error, EES_EDAMAGED, "%s: frame of %d bytes, at most %zu are allowed", s->name, p->packet->size,
                 s->options.max_frame_bytes);
    else if (ees__picture_complete_jpeg(p) < 0)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    out->data[0] = p->packet->data;
    out->bytes = (size_t)p->packet->size;
    return 0;
}

static int next_libav(ees_source *s, ees_frame *out, ees_error *err) {
    struct libav *l = s->state;
    struct ees__picture *p = ees__picture_acquire(s->pool);
    if (!p)
        return EES_FAIL(err, EES_ENOMEM, "%s: no memory for a frame", s->name);
    int rc = l->codec ? next_decoded(s, p, out, err) : next_packet(s, p, out, err);
    if (rc < 0) {
        ees__picture_release(p);
        return rc;
    }
    out->error = p->error.code ? &p->error : NULL;
    out->release = ees__picture_release;
    out->opaque = p;
    return 0;
}

static enum ees__match match_none(const struct ees__probe *probe) { return EES__MATCH_NONE; }

static const struct ees__source_kind kind = {
    .name = "libav",
    .state_bytes = sizeof(struct libav),
    .item_bytes = sizeof(struct ees__picture),
    .fini_item = ees__picture_fini,
    .match = match_none,
    .open = open_libav,
    .next = next_libav,
    .close = close_libav,
};

extern EES_API const struct ees__libav_module ees__libav_module;
const struct ees__libav_module ees__libav_module = {.stamp = EES__LIBAV_STAMP, .kind = &kind};

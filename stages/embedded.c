/* SPDX-License-Identifier: MIT */
/* The files of EES_EMBEDDED_DIR (set by the build, see stages/CMakeLists.txt), taken into the library as they are. */
#include "stages/embedded.h"

#ifdef EES_EMBEDDED_DIR
/* clang-format off */
#define EMBED(symbol, file)                                                                                        \
    __asm__(".section .rodata\n"                                                                                   \
            ".balign 64\n"                                                                                         \
            ".global ees__embedded_" #symbol "\n.hidden ees__embedded_" #symbol "\n"                               \
            "ees__embedded_" #symbol ":\n"                                                                         \
            ".incbin \"" EES_EMBEDDED_DIR "/" file "\"\n"                                                          \
            ".global ees__embedded_" #symbol "_end\n.hidden ees__embedded_" #symbol "_end\n"                       \
            "ees__embedded_" #symbol "_end:\n"                                                                     \
            ".byte 0\n"                                                                                            \
            ".previous\n");                                                                                        \
    extern __attribute__((visibility("hidden"))) const unsigned char ees__embedded_##symbol[],                     \
        ees__embedded_##symbol##_end[]
/* clang-format on */

EMBED(config, "config.json");
EMBED(preproc, "preprocessor_config.json");
EMBED(weights, "model.safetensors");

static struct ees__embedded_file span(const unsigned char *start, const unsigned char *end) {
    return (struct ees__embedded_file){start, (size_t)(end - start)};
}

bool ees__embedded_get(struct ees__embedded_model *out) {
    out->config = span(ees__embedded_config, ees__embedded_config_end);
    out->preproc = span(ees__embedded_preproc, ees__embedded_preproc_end);
    out->weights = span(ees__embedded_weights, ees__embedded_weights_end);
    return true;
}
#else
bool ees__embedded_get(struct ees__embedded_model *out) { return false; }
#endif

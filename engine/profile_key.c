/* SPDX-License-Identifier: MIT */
/* What a profile belongs to. Costs depend on shapes, code and processor, not on the values of weights. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "common/print.h"
#include "eestream/eestream.h"

/* Lines of /proc/cpuinfo that name the kind of processor: one on x86, on ARM one a kind of core. */
static void add_processor(struct ees__printer *k) {
    static const char *const fields[] = {"model name", "stepping", "CPU part", "CPU variant"};
    char line[256], seen[16][96];
    unsigned n_seen = 0;
    struct utsname system;
    ees__print(k, "cpu=%s", uname(&system) == 0 ? system.machine : "?");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && n_seen < sizeof seen / sizeof seen[0] && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        for (unsigned i = 0; colon && i < sizeof fields / sizeof fields[0]; i++) {
            char text[96];
            if (strncmp(line, fields[i], strlen(fields[i])) != 0)
                continue;
            snprintf(text, sizeof text, "%.*s", (int)strcspn(colon + 1, "\n"), colon + 1);
            bool known = false;
            for (unsigned s = 0; s < n_seen; s++)
                known |= strcmp(seen[s], text) == 0;
            if (known || n_seen == sizeof seen / sizeof seen[0])
                continue;
            memcpy(seen[n_seen++], text, sizeof text);
            ees__print(k, "%s", text);
        }
    }
    if (f)
        fclose(f);
}

static void add_cores(struct ees__printer *k) {
    ees_cores cores;
    if (ees_cores_detect(&cores, NULL) < 0)
        return;
    for (unsigned t = 0; t < cores.n_types; t++)
        ees__print(k, " %s:%.2f:%zu", cores.types[t].name, cores.types[t].capacity, cores.types[t].private_cache_bytes);
}

size_t ees_profile_key(const ees_model *model, char *out, size_t n) {
    const ees_model_info *i = ees_model_get_info(model);
    struct ees__printer k = ees__printer_on(out, n);
    ees__print(&k,
               "eestream %s; family=%s image=%ux%u patch=%u tokens=%u width=%u heads=%u mlp=%u blocks=%u classes=%u ",
               ees_version(), i->family ? i->family : "", i->image_height_px, i->image_width_px, i->patch_px,
               i->n_tokens, i->n_channels, i->n_heads, i->mlp_width, i->n_blocks, i->n_classes);
    ees__print(&k, "units=%u params=%llu packed=%zu exits=", i->n_units, (unsigned long long)i->n_params,
               i->weights_bytes);
    for (unsigned e = 0; e < i->n_exits; e++)
        ees__print(&k, "%s%u:%s", e ? "," : "", i->exits[e].after_block, i->exits[e].head ? i->exits[e].head : "");
    ees__print(&k, "; kernels=%s precision=%s; ", i->kernels ? i->kernels : "", i->precision ? i->precision : "");
    add_processor(&k);
    add_cores(&k);
    return k.length;
}

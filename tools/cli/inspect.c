/* SPDX-License-Identifier: MIT */
/* `eestream inspect`: what a model is, unit by unit. */
#include "tools/cli/file.h"
#include "tools/cli/summary.h"
#include "tools/cli/verbs.h"

/* Of a hierarchical backbone. */
static void print_stages(const ees_model_info *m) {
    for (unsigned s = 0; s < m->n_stages && m->n_stages > 1; s++) {
        const ees_stage_info *i = &m->stages[s];
        printf("stage %u     %u blocks, grid %ux%u, width %u, %u heads, MLP %u, windows of %ux%u\n", s + 1, i->n_blocks,
               i->grid_width, i->grid_height, i->n_channels, i->n_heads, i->mlp_width, i->window_width,
               i->window_height);
    }
}

static void print_model(const ees_model_info *m) {
    printf("model       %s (%s), kernels %s, %s\n", m->name, m->family, m->kernels, m->precision);
    printf("input       %ux%u px, patches of %u px, %u tokens\n", m->image_width_px, m->image_height_px, m->patch_px,
           m->n_tokens);
    printf("network     %u blocks, width %u, %u heads, MLP %u, %u classes, norm eps %g\n", m->n_blocks, m->n_channels,
           m->n_heads, m->mlp_width, m->n_classes, m->norm_eps);
    print_stages(m);
    printf("parameters  %.2f M\n", (double)m->n_params * 1e-6);
    printf("memory      weights %.2f MiB, %.1f KiB a frame in flight, %.1f KiB a worker\n",
           (double)m->weights_bytes / (1 << 20), (double)m->state_bytes / 1024, (double)m->scratch_bytes / 1024);
}

static void print_exits(const ees_model *model, const ees_model_info *m, const ees_policy_options *policy) {
    const ees_certificate *certificate = ees_model_get_certificate(model);
    char text[1280];
    policy_text(policy, text, sizeof text);
    printf("policy      %s\n", text);
    if (certificate)
        printf("certificate %s\n", certificate->file);
    printf("exits       %u early", m->n_exits);
    for (unsigned e = 0; e < m->n_exits; e++)
        printf("%s%u:%s after block %u", e ? ", " : ": ", e, m->exits[e].head, m->exits[e].after_block);
    putchar('\n');
}

static void print_units(const ees_model *model, const ees_model_info *m) {
    double flops = 0;
    size_t bytes = 0;
    printf("\nunit  name                      block  exit      MFLOP  weights KiB  products\n");
    for (unsigned u = 0; u < m->n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(model, u);
        char exit_text[16] = "-";
        if (unit->exit_idx >= 0)
            snprintf(exit_text, sizeof exit_text, "%d", unit->exit_idx);
        printf("%4u  %-25s %5u  %4s %10.2f %12.1f  %s\n", u, unit->name, unit->block, exit_text, unit->flops * 1e-6,
               (double)unit->weights_bytes / 1024, unit->precision);
        flops += unit->flops;
        bytes += unit->weights_bytes;
    }
    printf("      all units, every head                   %10.2f %12.1f\n", flops * 1e-6, (double)bytes / 1024);
}

static json_t *units_json(const ees_model *model, const ees_model_info *m) {
    json_t *units = json_array();
    for (unsigned u = 0; u < m->n_units; u++) {
        const ees_unit_info *unit = ees_model_get_unit(model, u);
        json_array_append_new(units,
                              json_pack("{s:s, s:i, s:i, s:f, s:I, s:s}", "name", unit->name, "block", (int)unit->block,
                                        "exit", unit->exit_idx, "flops", unit->flops, "weights_bytes",
                                        (json_int_t)unit->weights_bytes, "precision", unit->precision));
    }
    return units;
}

static json_t *stages_json(const ees_model_info *m) {
    json_t *stages = json_array();
    for (unsigned s = 0; s < m->n_stages; s++) {
        const ees_stage_info *i = &m->stages[s];
        json_array_append_new(
            stages, json_pack("{s:i, s:[ii], s:i, s:i, s:i, s:i, s:[ii], s:[ii], s:b}", "blocks", (int)i->n_blocks,
                              "grid", (int)i->grid_width, (int)i->grid_height, "tokens", (int)i->n_tokens, "width",
                              (int)i->n_channels, "heads", (int)i->n_heads, "mlp_width", (int)i->mlp_width, "window",
                              (int)i->window_width, (int)i->window_height, "shift", (int)i->shift_width,
                              (int)i->shift_height, "rolls_first", (int)i->rolls_first));
    }
    return stages;
}

static json_t *model_json(const ees_model *model, const ees_model_info *m, const ees_policy_options *policy) {
    json_t *exits = json_array();
    for (unsigned e = 0; e < m->n_exits; e++)
        json_array_append_new(
            exits, json_pack("{s:i, s:s}", "after_block", (int)m->exits[e].after_block, "head", m->exits[e].head));
    return json_pack("{s:s, s:s, s:s, s:s, s:[ii], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:I, s:I, s:I, s:I, "
                     "s:o, s:o, s:o, s:o}",
                     "name", m->name, "family", m->family, "kernels", m->kernels, "precision", m->precision, "input_px",
                     (int)m->image_width_px, (int)m->image_height_px, "patch_px", (int)m->patch_px, "tokens",
                     (int)m->n_tokens, "width", (int)m->n_channels, "heads", (int)m->n_heads, "mlp_width",
                     (int)m->mlp_width, "blocks", (int)m->n_blocks, "classes", (int)m->n_classes, "norm_eps",
                     m->norm_eps, "parameters", (json_int_t)m->n_params, "weights_bytes", (json_int_t)m->weights_bytes,
                     "state_bytes", (json_int_t)m->state_bytes, "scratch_bytes", (json_int_t)m->scratch_bytes, "policy",
                     policy_json(policy), "exits", exits, "stages", stages_json(m), "units", units_json(model, m));
}

/* ---- Weights -------------------------------------------------------------------------------------------- */

/* Canonical name, shape, and the file's names for it. */
static void keep_tensor(void *opaque, const ees_tensor_use *use) {
    json_t *list = opaque, *shape = json_array(), *parts = json_array();
    for (unsigned i = 0; i < use->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)use->shape[i]));
    for (unsigned i = 0; i < use->n_parts; i++)
        json_array_append_new(parts, json_string(use->parts[i]));
    json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "name", use->name, "shape", shape, "parts", parts));
}

static void print_tensors(const json_t *tensors) {
    const json_t *tensor, *part;
    size_t i, j;
    printf("\ntensor                            of the file\n");
    json_array_foreach(tensors, i, tensor) {
        printf("%-32s", json_string_value(json_object_get(tensor, "name")));
        json_array_foreach(json_object_get(tensor, "parts"), j, part)
            printf("%s %s", j ? "," : "", json_string_value(part));
        putchar('\n');
    }
}

/* What it takes to compute with the weights elsewhere, beside the sizes. */
static void add_weights_json(json_t *json, const ees_model_info *m, json_t *tensors) {
    json_object_set_new(json, "pool", json_string(m->pool));
    json_object_set_new(json, "activation", json_string(m->activation));
    json_object_set_new(
        json, "position_table",
        json_pack("{s:[ii], s:s}", "grid", (int)m->table_width, (int)m->table_height, "filter", m->table_filter));
    json_object_set(json, "tensors", tensors);
}

static int inspect(const struct options *o, const ees_model *model, json_t *tensors, ees_error *err) {
    const ees_model_info *info = ees_model_get_info(model);
    ees_policy_options asked, policy;
    CLI_TRY(options_policy(o, &asked, err));
    CLI_TRY(ees_policy_resolve(model, &asked, &policy, err));
    if (o->format == REPORT_JSON) {
        json_t *json = model_json(model, info, &policy);
        if (o->tensor_table)
            add_weights_json(json, info, tensors);
        return file_write_json("-", json, err);
    }
    print_model(info);
    print_exits(model, info, &policy);
    print_units(model, info);
    if (o->tensor_table)
        print_tensors(tensors);
    return file_finish_stdout(err);
}

enum exit_code verb_inspect(const struct options *o) {
    struct options with_dir = *o;
    ees_error err = {0};
    ees_model *model = NULL;
    json_t *tensors = json_array();
    if (o->n_inputs > 1)
        CLI_FAIL(&err, EES_EINVAL, "inspect takes one model folder, %zu are given", o->n_inputs);
    if (o->n_inputs == 1)
        with_dir.model_dir = o->inputs[0];
    with_dir.on_tensor = keep_tensor;
    with_dir.on_tensor_opaque = tensors;
    if (!err.code && options_open_model(&with_dir, o->arch, &model, &err) == 0)
        inspect(o, model, tensors, &err);
    json_decref(tensors);
    ees_model_close(model);
    return err.code ? leave_with(&err, o->verbose) : EXIT_DONE;
}

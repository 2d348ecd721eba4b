/* SPDX-License-Identifier: MIT */
/* certificate.json: thresholds that `eestream calibrate` found for a model, with the evidence for them. The library
 * reads what it acts on: for which model they are, the policy, and the exit mix to expect. docs/calibration.md has the
 * whole format. */
#ifndef EES_STAGES_CERTIFICATE_H
#define EES_STAGES_CERTIFICATE_H

#include "stages/model.h"

/* Make the certificate's policy the model's own. @return 0; EES_EMODEL not readable, or made for other weights, exits,
 * classes or input: file and field are named; EES_EUNSUPPORTED the model's weights are random; EES_ENOMEM */
int ees__certificate_apply(ees_model *model, const char *path, ees_error *err);

#endif

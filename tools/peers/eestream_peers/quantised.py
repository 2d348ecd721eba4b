# SPDX-License-Identifier: MIT
"""The peers' own ways to int8, each as its documentation recommends for transformers."""

import numpy as np


def onnxruntime_dynamic(graph, out):
    """Weights int8 by channel, activations by tensor while running; what is not MatMul stays fp32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(out), per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    return out


def openvino_nncf(graph, out, n_images=32):
    """Post-training quantisation with the preset for transformers, calibrated on the kind of input that is run."""
    import nncf
    import openvino as ov

    model = ov.Core().read_model(graph)
    rng = np.random.default_rng(3)
    images = [rng.standard_normal((1, 3, 224, 224)).astype(np.float32) for _ in range(n_images)]
    quantised = nncf.quantize(model, nncf.Dataset(images, lambda x: {"image": x}), model_type=nncf.ModelType.TRANSFORMER)
    ov.save_model(quantised, out, compress_to_fp16=False)
    return out

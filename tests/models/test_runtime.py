from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from covermap.errors import ConfigError
from covermap.models import runtime as module
from covermap.models.registry import ModelSpec
from covermap.models.runtime import Runtime, resolve_device, resolve_precision

UNET = ModelSpec("smp", {"decoder": "unet", "encoder": "resnet18"})
CPU = torch.device("cpu")


@pytest.fixture
def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


class TestRuntime:
    def test_scores_are_those_of_the_network(self, make_bundle, image):
        bundle = make_bundle(spec=UNET)
        before = {name: value.clone() for name, value in bundle.model.state_dict().items()}
        with torch.no_grad():
            expected = bundle.model(image)
        for options in ({}, {"fold": False, "channels_last": False}):
            found = Runtime(bundle, **options).predict_logits(image)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        after = bundle.model.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())

    def test_bfloat16_agrees_roughly(self, make_bundle, image, monkeypatch):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: True)
        bundle = make_bundle(spec=UNET)
        found = Runtime(bundle, precision="bfloat16").predict_logits(image)
        expected = Runtime(bundle).predict_logits(image)
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).abs().max() < 0.1 * expected.std() + 0.05

    def test_classes_that_were_never_learned_are_never_predicted(self, make_bundle, image):
        bundle = make_bundle(learned=("water", "town"))
        for tta in ("none", "d4"):
            logits = Runtime(bundle, tta=tta).predict_logits(image)
            assert set(logits.argmax(1).unique().tolist()) <= {0, 2}
            assert torch.softmax(logits.float(), 1)[:, 1].max() < 1e-30

    def test_tta_of_a_network_that_looks_at_pixels_alone_changes_nothing(self, make_bundle, image):
        bundle = make_bundle()
        expected = torch.softmax(Runtime(bundle).predict_logits(image), 1)
        found = torch.softmax(Runtime(bundle, tta="d4").predict_logits(image), 1)
        torch.testing.assert_close(found, expected)

    def test_normalises_as_the_bundle_does(self, make_bundle):
        bundle = make_bundle()
        pixels = np.full((3, 2, 2), 120, np.uint16)
        valid = np.array([[True, False], [True, True]])
        found = Runtime(bundle).normalise(pixels, valid)
        assert found[0, 0, 0] == pytest.approx((120 - 100) / 20)
        assert (found[:, 0, 1] == 0).all()

    def test_batch_follows_free_memory(self, make_bundle, monkeypatch):
        runtime = Runtime(make_bundle(spec=UNET))
        per_tile = 64 * 64 * runtime.bytes_per_pixel
        monkeypatch.setattr(module, "free_memory", lambda device: 5 * 2 * per_tile)
        assert runtime.fit_batch(64, 64) == 5
        monkeypatch.setattr(module, "free_memory", lambda device: 1)
        assert runtime.fit_batch(64, 64) == 1
        monkeypatch.setattr(module, "free_memory", lambda device: 1 << 60)
        assert runtime.fit_batch(64, 64) == 16
        assert runtime.fit_batch(2304, 2304) == 1

    def test_memory_is_known_before_it_is_needed(self, make_bundle, monkeypatch):
        # three bands in, three scores out, one pixel at a time
        assert Runtime(make_bundle()).bytes_per_pixel == 4 * (3 + 3)
        monkeypatch.setattr(module, "has_bfloat16", lambda device: True)
        assert Runtime(make_bundle(), precision="bfloat16").bytes_per_pixel == 2 * (3 + 3)

    def test_compiling_without_a_compiler_is_refused(self, make_bundle, monkeypatch):
        monkeypatch.setattr(module.shutil, "which", lambda name: None)
        with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
            Runtime(make_bundle(), compiled=True)

    def test_warm_up_tells_its_time(self, make_bundle):
        assert Runtime(make_bundle()).warm_up(2, 8, 8) > 0


class TestPrecision:
    def test_unknown_is_refused_with_a_hint(self):
        with pytest.raises(ConfigError, match="Did you mean 'bfloat16'"):
            resolve_precision("bf16", CPU, strict=True)

    def test_a_processor_without_bfloat16_refuses_what_the_user_set(self, monkeypatch, caplog):
        monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
        with pytest.raises(ConfigError, match="no bfloat16 arithmetic"):
            resolve_precision("bfloat16", CPU, strict=True)
        with caplog.at_level(logging.WARNING):
            assert resolve_precision("bfloat16", CPU, strict=False) == "float32"
        assert "mapping in float32" in caplog.text

    def test_a_processor_with_bfloat16_does_it(self, monkeypatch):
        monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
        assert resolve_precision("bfloat16", CPU, strict=True) == "bfloat16"

    @pytest.mark.parametrize(
        ("flags", "gains"), [({"avx512_bf16", "amx_bf16"}, True), ({"avx512_bf16"}, False)]
    )
    def test_processors_gain_by_bfloat16_with_matrix_units_only(self, monkeypatch, flags, gains):
        monkeypatch.setattr(module, "cpu_flags", lambda: frozenset(flags))
        assert module.gains_by_bfloat16(CPU) is gains

    def test_float32_on_a_gpu_is_float32(self, make_bundle):
        runtime = Runtime(make_bundle())
        runtime.device = torch.device("cuda")  # nothing is run there
        flags = torch.backends.cudnn
        before = flags.enabled, flags.deterministic, flags.allow_tf32
        with runtime._exact():
            assert (flags.enabled, flags.deterministic, flags.allow_tf32) == (True, True, False)
        assert (flags.enabled, flags.deterministic, flags.allow_tf32) == before


class TestDevice:
    def test_nonsense_is_refused(self):
        with pytest.raises(ConfigError, match="device is 'gpu'"):
            resolve_device("gpu")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
    def test_a_gpu_that_is_not_there_is_refused(self):
        assert resolve_device("auto") == CPU
        with pytest.raises(ConfigError, match="cannot be used here"):
            resolve_device("cuda:3")

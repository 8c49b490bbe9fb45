"""What trains in the third stage. A method is data: a rule over layer groups and the modules that own a parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from orca.bodies import LayerGroup
from orca.registry import Registry

Rule = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Method:
    """A way to adapt.

    Attributes:
        name: the name in configurations.
        summary: what trains, in a line.
        source: the paper.
        trains: whether a parameter trains, from the name of its layer group and the module that owns it.
        pretrained: whether the body starts from its pretrained weights, or from random ones.
        aligned: whether the align stage comes before it.
    """

    name: str
    summary: str
    source: str
    trains: Rule
    pretrained: bool = True
    aligned: bool = True


METHODS: Registry[Method] = Registry("method")
METHODS.add(Method("full", "everything", "Shen et al. 2023, arXiv 2302.05738", lambda group, module: True))
METHODS.add(
    Method(
        "layernorm",
        "layer norms, embedder and predictor (frozen pretrained transformer)",
        "Lu et al. 2021, arXiv 2103.05247",
        lambda group, module: group in ("embedder", "head") or isinstance(module, nn.LayerNorm),
    )
)
METHODS.add(Method("head", "the predictor on frozen features", "linear probing", lambda group, module: group == "head"))
METHODS.add(
    Method(
        "scratch",
        "everything, from random weights, without alignment",
        "the control of Shen et al. 2023, section 4",
        lambda group, module: True,
        pretrained=False,
        aligned=False,
    )
)


def apply_method(groups: list[LayerGroup], method: Method) -> dict[str, list[nn.Parameter]]:
    """Sets ``requires_grad`` on every parameter by the method's rule.

    Returns:
        The parameters that train, by layer group, in order; groups without any are left out.
    """
    chosen: dict[str, list[nn.Parameter]] = {}
    for group in groups:
        for root in group.modules:
            for module in root.modules():
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(method.trains(group.name, module))
                    if parameter.requires_grad:
                        chosen.setdefault(group.name, []).append(parameter)
    return chosen

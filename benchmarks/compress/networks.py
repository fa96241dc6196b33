"""The networks of the benchmark in PyTorch, with batch norms or with these folded away.

Shapes follow MobileNetV2 (Sandler et al. 2018) and ResNet (He et al. 2016); torchvision is not
needed. `folded` gives the same network with biased convolutions and no batch norm, which is what
the exported files hold, so their weights can be read back into it.
"""

from collections.abc import Sequence

import torch
from torch import nn

MOBILENET_STAGES = (
    # expansion, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
DIGIT_MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 2, 2),
    (6, 64, 2, 1),
    (6, 96, 1, 1),
    (6, 160, 1, 1),
    (6, 320, 1, 1),
)


def convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, *, folded: bool
) -> list[nn.Module]:
    """A convolution with its batch norm, or with the bias that replaces it."""
    padding = size // 2
    layer = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=folded)
    return [layer] if folded else [layer, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel alone, project; added to its input where shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, folded: bool
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.is_residual = stride == 1 and inputs == outputs
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*convolution(inputs, hidden, 1, folded=folded), nn.ReLU6()]
        layers += [*convolution(hidden, hidden, 3, stride, hidden, folded=folded), nn.ReLU6()]
        layers += convolution(hidden, outputs, 1, folded=folded)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.is_residual else self.layers(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 of a width; the stages are (expansion, channels, blocks, stride)."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 1000,
        width: float = 1.0,
        last: int = 1280,
        stages: Sequence[tuple[int, int, int, int]] = MOBILENET_STAGES,
        folded: bool = False,
    ) -> None:
        super().__init__()
        current = _round_to_eight(32 * width)
        layers = [*convolution(channels, current, 3, 2, folded=folded), nn.ReLU6()]
        for expansion, outputs, blocks, stride in stages:
            outputs = _round_to_eight(outputs * width)
            for index in range(blocks):
                step = stride if index == 0 else 1
                layers.append(InvertedResidual(current, outputs, step, expansion, folded))
                current = outputs
        layers += [*convolution(current, last, 1, folded=folded), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(pooled, 1))


class Residual(nn.Module):
    """Two or three convolutions beside a shortcut: a basic or a bottleneck block."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, bottleneck: bool, folded: bool
    ) -> None:
        super().__init__()
        if bottleneck:
            inner = outputs // 4
            layers = [*convolution(inputs, inner, 1, folded=folded), nn.ReLU()]
            layers += [*convolution(inner, inner, 3, stride, folded=folded), nn.ReLU()]
            layers += convolution(inner, outputs, 1, folded=folded)
        else:
            layers = [*convolution(inputs, outputs, 3, stride, folded=folded), nn.ReLU()]
            layers += convolution(outputs, outputs, 3, folded=folded)
        self.layers = nn.Sequential(*layers)
        is_plain = stride == 1 and inputs == outputs
        shortcut = [] if is_plain else convolution(inputs, outputs, 1, stride, folded=folded)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A ResNet; the stages are (channels, blocks, stride). `pooled` adds the large stem."""

    def __init__(
        self,
        channels: int,
        classes: int,
        stem: int,
        stages: Sequence[tuple[int, int, int]],
        bottleneck: bool = False,
        pooled: bool = False,
        folded: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            *convolution(channels, stem, 7 if pooled else 3, 2, folded=folded),
            nn.ReLU(),
        ]
        if pooled:
            layers.append(nn.MaxPool2d(3, 2, 1))
        current = stem
        for outputs, blocks, stride in stages:
            for index in range(blocks):
                step = stride if index == 0 else 1
                layers.append(Residual(current, outputs, step, bottleneck, folded))
                current = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(current, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(pooled, 1))


def digit_mobilenet(folded: bool = False) -> MobileNetV2:
    """MobileNetV2 0.75 with fewer blocks for 32x32 digits, 0.6 million parameters."""
    return MobileNetV2(1, 10, 0.75, 480, DIGIT_MOBILENET_STAGES, folded)


def digit_resnet(folded: bool = False) -> ResNet:
    """Basic blocks of 32, 64 and 128 channels for 32x32 digits, 0.3 million parameters."""
    return ResNet(1, 10, 32, ((32, 1, 1), (64, 1, 2), (128, 1, 2)), folded=folded)


def mobilenet_224() -> MobileNetV2:
    """MobileNetV2 1.0 for 224x224 photographs, 3.5 million parameters."""
    return MobileNetV2(folded=True)


def resnet_50() -> ResNet:
    """ResNet-50 for 224x224 photographs, 25.6 million parameters."""
    stages = ((256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2))
    return ResNet(3, 1000, 64, stages, bottleneck=True, pooled=True, folded=True)


def _round_to_eight(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)

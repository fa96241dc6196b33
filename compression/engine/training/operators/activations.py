"""Activations."""

from compression.engine.training.engines.arrays import Array, Engine
from compression.engine.training.operators.node import Builder, Compute, Node, simple


def build_clip(node: Node) -> Compute:
    fixed_low, fixed_high = node.get("min"), node.get("max")

    def clip(arrays: Engine, x: Array, low: Array = None, high: Array = None) -> Array:
        low, high = fixed_low if low is None else low, fixed_high if high is None else high
        x = x if low is None else arrays.xp.where(x < low, low, x)
        return x if high is None else arrays.xp.where(x > high, high, x)

    return clip


def build_leaky_relu(node: Node) -> Compute:
    slope = node.get("alpha", 0.01)
    return lambda arrays, x: arrays.nn.leaky_relu(x, slope)


def build_prelu(node: Node) -> Compute:
    # The slope broadcasts as in arithmetic, unlike that of the libraries.
    return lambda arrays, x, slope: arrays.xp.where(x < 0, x * slope, x)


def build_elu(node: Node) -> Compute:
    alpha = node.get("alpha", 1.0)
    return lambda arrays, x: arrays.nn.elu(x, alpha)


def build_hard_sigmoid(node: Node) -> Compute:
    slope, offset = node.get("alpha", 0.2), node.get("beta", 0.5)
    return lambda arrays, x: arrays.xp.clip(slope * x + offset, 0.0, 1.0)


def hard_swish(arrays: Engine, x: Array) -> Array:
    """x times a straight line from 0 at -3 to 1 at 3 (Howard et al. 2019)."""
    return x * arrays.xp.clip(x / 6 + 0.5, 0.0, 1.0)


def build_gelu(node: Node) -> Compute:
    is_tanh = node.get("approximate", "none") == "tanh"

    def gelu(arrays: Engine, x: Array) -> Array:
        if is_tanh:
            bent = arrays.xp.tanh(0.7978845608028654 * (x + 0.044715 * x**3))
        else:
            bent = arrays.erf(x * 0.7071067811865476)
        return 0.5 * x * (1 + bent)

    return gelu


def build_softmax(name: str) -> Builder:
    """The builder of `softmax` or `log_softmax`."""

    def build(node: Node) -> Compute:
        if node.opset >= 13:
            axis = node.get("axis", -1)
            return lambda arrays, x: getattr(arrays.nn, name)(x, axis)
        first = node.get("axis", 1)

        # Before operator set 13 all axes from the given one on were taken together.
        def flattened(arrays: Engine, x: Array) -> Array:
            flat = x.reshape((*x.shape[: first % x.ndim], -1))
            return getattr(arrays.nn, name)(flat, -1).reshape(x.shape)

        return flattened

    return build


def _activation(name: str) -> Builder:
    return lambda node: lambda arrays, x: getattr(arrays.nn, name)(x)


ACTIVATIONS: dict[str, Builder] = {
    "Clip": build_clip,
    "Elu": build_elu,
    "Erf": lambda node: lambda arrays, x: arrays.erf(x),
    "Gelu": build_gelu,
    "HardSigmoid": build_hard_sigmoid,
    "HardSwish": lambda node: hard_swish,
    "LeakyRelu": build_leaky_relu,
    "LogSoftmax": build_softmax("log_softmax"),
    "Mish": _activation("mish"),
    "PRelu": build_prelu,
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Softmax": build_softmax("softmax"),
    "Softplus": _activation("softplus"),
    "Tanh": simple("tanh"),
}

"""Structured pruning of ONNX graphs: whole channels are removed physically. Pure.

Every axis that can shrink is a row of slots, one per channel. Walking the graph forward, slots that
must be kept or dropped together are united: both sides of an addition, a depthwise convolution's
input and output, every copy behind a flatten. An operator that is not understood pins the slots it
reads, so that nothing before it changes. What remains are classes of slots which can each be
dropped without changing any shape elsewhere by surprise.
"""

"""`make bench-zoo`: models of others, through upload, every pass and the agent, beside peers.

`catalogue.py` says what each model is; `inputs.py` draws what it is fed; `exports.py` makes those
of scikit-learn. `product.py` and `peers.py` do the work in limited children, `trial.py` has the
agent run what came out, and `judging.py` says what is right.
"""

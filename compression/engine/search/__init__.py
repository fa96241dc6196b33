"""The best variant under constraints: what to try, how to judge it, what to recommend."""

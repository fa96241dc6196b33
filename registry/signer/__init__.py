"""The signing service: a process of its own, the only one that can read an online private key.

Web servers and workers ask it over a Unix socket; what each role may sign is checked here
(`policy.py`), and every signature is in its log. Nothing in this folder imports Django, so that the
process stays small.

Another home for the keys (PKCS#11, a cloud's KMS) is a class with the three methods of
`keys.KeyStore`, named by `--key-store module:Class`.
"""

"""The signing service: a process of its own, the only one that can read an online private key.

Web servers and workers ask it over a Unix socket; what each role may sign is checked here
(`policy.py`), and every signature is in its log. Nothing in this folder imports Django, so that the
process stays small.

Keys are in files (`keys.py`) or in a PKCS#11 token (`token_keys.py`). Another home for them, such
as a cloud's KMS, is a class with the three methods of `keys.KeyStore`, named by
`--key-store module:Class`; with those of `keys.RotatingKeyStore`, the commands replace its keys
too.
"""

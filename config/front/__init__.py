"""What stands between the network and Django: nobody's slowness costs anybody else a thread.

Bodies are read before a thread is taken, bounded in bytes and in time; long ones only from callers
with a valid credential. Calls then run in lanes, each with threads of its own and a short queue, so
that uploads, sign-ins and a store that hangs cannot hold up polls.
"""

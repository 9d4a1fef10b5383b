"""The local stack: real servers from ordinary packages, each a child process on loopback. Nothing needs Docker."""

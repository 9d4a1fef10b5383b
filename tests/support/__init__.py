"""What tests of several folders share: databases, a whole stack, waiting, running commands."""

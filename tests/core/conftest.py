"""Properties are tried on a machine that others use too: how long one example takes says nothing."""

from hypothesis import settings

settings.register_profile("core", deadline=None)
settings.load_profile("core")

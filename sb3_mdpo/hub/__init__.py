"""Sharing runs of the zoo on the Hugging Face Hub: see :mod:`sb3_mdpo.hub.push` and :mod:`sb3_mdpo.hub.pull`."""

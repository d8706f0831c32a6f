"""Sharing runs of the zoo through the Hugging Face Hub.

Nothing is imported here: ``sb3-mdpo --help`` passes through. The functions behind the commands are
:func:`sb3_mdpo.hub.push.push_run` and :func:`sb3_mdpo.hub.pull.pull_run`.
"""
